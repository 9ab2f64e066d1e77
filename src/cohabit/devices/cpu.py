"""Host memory as a device: proportional set sizes of process groups against the machine or its cgroup.

Proportional (PSS), so that shared libraries and mapped weights count once; a worker's memory is that of its
whole process group.
"""

from collections.abc import Mapping
from pathlib import Path

import psutil

from cohabit.devices.reading import Reading

_CGROUPS = (  # limit and usage, version 2 then 1
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def _cgroup() -> tuple[int, int] | None:
    """Limit and usage of the control group this runs in; None without a limit."""
    for limit_file, usage_file in _CGROUPS:
        try:
            limit = limit_file.read_text().strip()
            usage = usage_file.read_text().strip()
        except OSError:
            continue
        if limit.isdecimal() and int(limit) < psutil.virtual_memory().total:
            return int(limit), int(usage)
    return None


def memory() -> tuple[int, int]:
    """Bytes in all and bytes that nobody uses, of the machine or its cgroup where that has less."""
    machine = psutil.virtual_memory()
    cgroup = _cgroup()
    if cgroup is None:
        return machine.total, machine.available
    limit, usage = cgroup
    return limit, min(machine.available, max(0, limit - usage))


class Cpu:
    """The machine's memory, or its cgroup's where that is less."""

    def total_bytes(self) -> int:
        """min(MemTotal, cgroup limit)."""
        return memory()[0]

    def read(self, workers: Mapping[int, int]) -> Reading:
        """PSS of every worker's process group; a process that is gone holds nothing."""
        total, available = memory()
        groups = group_members()
        return Reading(
            total=total,
            available=available,
            workers={worker: sum(map(pss, groups.get(pid, ()))) for worker, pid in workers.items()},
        )


def group_members() -> dict[int, list[int]]:
    """Pids by process group, from /proc."""
    groups: dict[int, list[int]] = {}
    for pid in psutil.pids():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            continue  # it has just ended
        # pid (name) state ppid pgrp ...; the name may hold anything, so count from its last bracket
        group = int(stat[stat.rindex(")") + 2 :].split()[2])
        groups.setdefault(group, []).append(pid)
    return groups


def pss(pid: int) -> int:
    """Proportional set size of one process in bytes; its resident size where the kernel keeps PSS from us."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except PermissionError:
        try:
            resident: int = psutil.Process(pid).memory_info().rss
        except psutil.NoSuchProcess:
            return 0
        return resident
    except OSError:
        return 0  # it has just ended
    return 0  # a kernel thread or a process that is being reaped has no maps
