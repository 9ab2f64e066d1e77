"""Devices as the control plane sees them: how much memory there is, who holds it. Never through torch."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class DeviceError(Exception):
    """The device is not there or cannot be read; one line for the user."""


@dataclass(frozen=True, slots=True)
class DeviceReading:
    """Bytes at about one moment.

    A device cannot be read at one moment: a worker may take or give back memory while it is. ``available`` is the
    least that was seen before and after the workers were read, so that other programs never seem to hold less than
    they do: room that is not there would be given away.
    """

    total: int
    available: int
    workers: dict[int, int]  # by worker id


class DeviceReader(Protocol):
    """A device whose memory models share. Methods block for some milliseconds: call them in a thread."""

    def total_bytes(self) -> int:
        """All memory it has."""

    def read(self, workers: Mapping[int, int]) -> DeviceReading:
        """A reading. ``workers`` gives the process group (the leader's pid) of every worker id.

        Raises DeviceError if it cannot be read at this moment; trying again later may help.
        """


def parse_kind(kind: str) -> tuple[str, int]:
    """``cpu`` or ``cuda:N`` as name and index. Raises DeviceError for anything else."""
    name, _, index = kind.partition(":")
    if kind == "cpu" or (name == "cuda" and index.isdecimal()):
        return name, int(index or 0)
    raise DeviceError(f"no such device: {kind!r}; use cpu or cuda:0")


def device_for(kind: str) -> DeviceReader:
    """The device of a config. Raises DeviceError if it is not there."""
    name, index = parse_kind(kind)
    if name == "cpu":
        from cohabit.devices.cpu import Cpu

        return Cpu()
    from cohabit.devices.cuda import Cuda

    return Cuda(index)


def host_available() -> int:
    """Bytes of host memory that nobody uses now."""
    from cohabit.devices.cpu import memory

    return memory()[1]
