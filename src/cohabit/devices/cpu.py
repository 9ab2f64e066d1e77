"""Host memory as a device: proportional set sizes of process groups against the machine or its control groups.

Proportional (PSS), so that shared libraries and mapped weights count once; a worker's memory is that of its
whole process group.

Files in ``/proc`` are read as bytes. A process chooses its own name, and the kernel cuts it after 15 bytes, which may
be inside a character, so nothing there is sure to be text.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import psutil

from cohabit.devices import DeviceError, DeviceReading, cgroups

# pid (name) state ppid pgrp ...; the name may hold anything, so this looks behind its last bracket
_GROUP = re.compile(rb".*\) \S+ -?\d+ (\d+) ", re.DOTALL)
_PSS = re.compile(rb"^Pss:\s+(\d+) kB$", re.MULTILINE)


def memory() -> tuple[int, int]:
    """Bytes in all and bytes that can be had, of the machine or the tightest of its control groups."""
    machine = psutil.virtual_memory()
    total, available = machine.total, machine.available
    for group in cgroups.own():
        limited = group.limited()
        if limited is not None:
            total, available = min(total, limited[0]), min(available, limited[1])
    return total, available


class Cpu:
    """The machine's memory, or that of its control groups where it is less."""

    def total_bytes(self) -> int:
        """The least of MemTotal and the groups' limits."""
        return memory()[0]

    def read(self, workers: Mapping[int, int]) -> DeviceReading:
        """PSS of every worker's process group; a process that is gone holds nothing.

        Raises DeviceError if ``/proc`` cannot be read, for example because no file descriptor is free.
        """
        try:
            total, before = memory()
            groups = group_members()
            held = {worker: sum(map(pss, groups.get(pid, ()))) for worker, pid in workers.items()}
            available = min(before, memory()[1])
        except (OSError, ValueError) as error:
            raise DeviceError(f"the memory of this machine cannot be read: {error}") from error
        return DeviceReading(total=total, available=available, workers=held)


def group_members() -> dict[int, list[int]]:
    """Pids by process group, from /proc. Raises OSError if it cannot be read."""
    groups: dict[int, list[int]] = {}
    for pid in psutil.pids():
        try:
            found = _GROUP.match(Path(f"/proc/{pid}/stat").read_bytes())
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has just ended, or is somebody else's and hidden from us
        if found is not None:  # a process that is being reaped may have an empty file
            groups.setdefault(int(found[1]), []).append(pid)
    return groups


def pss(pid: int) -> int:
    """Proportional set size of one process in bytes; its resident size where the kernel keeps PSS from us.

    0 for a process that has ended. Raises OSError if it is there and cannot be read: then its size is not known.
    """
    try:
        found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has just ended
    except PermissionError:
        return _resident(pid)
    return int(found[1]) * 1024 if found else 0  # a kernel thread or a process that is being reaped has no maps


def _resident(pid: int) -> int:
    try:
        resident: int = psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return 0
    return resident
