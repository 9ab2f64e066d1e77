"""What a device can tell."""

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
