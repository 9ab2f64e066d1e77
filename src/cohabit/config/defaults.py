"""Defaults that depend on the device, and a model's config as other layers take it."""

import math
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from cohabit.config.model import Config, ModelConfig
from cohabit.core.model_state import ModelPolicy
from cohabit.devices import parse_kind
from cohabit.engines.registry import engine_class
from cohabit.protocol.engine import Derivation
from cohabit.protocol.spec import Device, ModelSpec
from cohabit.protocol.tasks import Task

_KEEP_FREE = {"cpu": 512 << 20, "cuda": 2 << 30}
_CUDA_SLOTS = 3
# Two at once with what is honest: a PNG of 25 megapixels with transparency takes 301 MiB, 60 MiB of sound 250 MiB.
_INSPECTION = 2 * (320 << 20)


def place(config: Config) -> Device:
    """The device as engines know it."""
    name, index = parse_kind(config.device.kind)
    return Device(name, index)


def derivations(model: ModelConfig) -> Mapping[str, Derivation]:
    """What is to be made of its weights first, by role; ``source`` is the model's own."""
    engine = engine_class(model.engine)
    return engine.derivations(msgspec.convert(model.options, engine.Options))


def compute_slots(config: Config) -> int:
    """As configured; else the cores this process may use, or 3 on a card."""
    if config.device.compute_slots is not None:
        return config.device.compute_slots
    return len(os.sched_getaffinity(0)) if place(config).kind == "cpu" else _CUDA_SLOTS


def slots(config: Config, model: ModelConfig) -> int:
    """Compute slots a model takes while it runs: on cpu, its threads."""
    if model.slots is not None:
        return model.slots
    threads = model.options.get("threads", 1)
    return threads if place(config).kind == "cpu" and isinstance(threads, int) and threads > 0 else 1


def niceness(config: Config, model: ModelConfig) -> int:
    """On cpu, priorities hold where more wants to run than there are cores, too: a level of the scheduler's niceness
    is a factor of 1.25 in weight (Linux, ``sched_prio_to_weight``), so that 3 to 1 is 5 levels."""
    if place(config).kind != "cpu":
        return 0
    most = max(other.priority for other in config.models.values())
    return min(19, round(math.log(most / model.priority, 1.25)))


def max_stall(config: Config, model: ModelConfig) -> float:
    """Seconds that a model's runs may give no sign of progress."""
    return config.scheduling.max_stall if model.max_stall is None else model.max_stall


def keep_free(config: Config, total: int) -> int:
    """Bytes never eaten into, on a device with ``total`` bytes."""
    if config.device.keep_free is not None:
        return config.device.keep_free.of(total)
    return _KEEP_FREE[place(config).kind]


def inspection(config: Config) -> int:
    """Bytes kept on cpu for the two processes that open pictures and sound, where a model takes any."""
    tasks = frozenset().union(*(engine_class(model.engine).tasks for model in config.models.values()))
    return _INSPECTION if tasks & {Task.DESCRIBE, Task.TRANSCRIBE} and place(config).kind == "cpu" else 0


def budget(config: Config, total: int) -> int:
    """Bytes all models together may hold: as configured, never more than the device has beyond what is kept."""
    most = max(0, total - keep_free(config, total) - inspection(config))
    return most if config.device.budget is None else min(most, config.device.budget.of(total))


def host_cache(config: Config, free: int) -> int:
    """Bytes that copies may take of a host's memory: as configured, else half of what is ``free``.

    None on cpu, where there is one memory.
    """
    if place(config).kind == "cpu":
        return 0
    return free // 2 if config.device.host_cache is None else config.device.host_cache.of(free)


def copies(config: Config, model: ModelConfig) -> bool:
    """Whether it sleeps by a copy in host memory."""
    return engine_class(model.engine).copies and place(config).kind != "cpu"


def model_policy(config: Config, name: str) -> ModelPolicy:
    """The core's slice of one model's config."""
    model, scheduling = config.models[name], config.scheduling
    return ModelPolicy(
        name=name,
        concurrency=model.concurrency,
        max_batch=scheduling.max_batch if model.max_batch is None else model.max_batch,
        slots=slots(config, model),
        priority=model.priority,
        pin=model.pin,
        sleeps=engine_class(model.engine).sleeps,
        copies=copies(config, model),
        preload=model.preload,
        keep_alive=model.keep_alive,
        patience=scheduling.patience if model.patience is None else model.patience,
        max_wait=scheduling.max_wait if model.max_wait is None else model.max_wait,
        max_run=scheduling.max_run if model.max_run is None else model.max_run,
        queue_limit=scheduling.queue_limit if model.queue_limit is None else model.queue_limit,
    )


def model_spec(config: Config, name: str, source: Path | None, files: Mapping[str, Path]) -> ModelSpec:
    """What a worker is told, its files resolved."""
    model = config.models[name]
    return ModelSpec(
        name=name,
        engine=model.engine,
        source="" if source is None else str(source),
        files={role: str(path) for role, path in files.items()},
        options=model.options,
        concurrency=model.concurrency,
        trust_remote_code=model.trust_remote_code,
    )
