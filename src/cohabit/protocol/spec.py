"""What a worker is told about the model it is to load."""

from typing import Any

import msgspec


class Device(msgspec.Struct, frozen=True):
    """Where a model runs: ``cpu``, or ``cuda`` with the index of one card."""

    kind: str
    index: int = 0


class ModelSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One model as its engine sees it. Paths are absolute and local: the control plane has fetched them."""

    name: str
    engine: str
    source: str = ""  # a file or a directory; empty where the weights come with the runtime or there are none
    files: dict[str, str] = {}  # further files by role, such as ``tokenizer``
    options: dict[str, Any] = {}  # the engine's own options, already checked against its ``Options``
    concurrency: int = 1  # requests the engine may be given at once
    trust_remote_code: bool = False
    keep_copy: bool = False  # its load is to leave a copy of the weights in host memory, from which it wakes


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that a model is guessed to need before anybody measured it."""

    idle: int  # ready and idle, the worker process itself included
    load: int  # the peak while loading
    activation: int  # added while anything runs
