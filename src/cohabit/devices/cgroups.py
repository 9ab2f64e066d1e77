"""Memory limits of the control groups that this process is in, version 1 and 2.

A service manager or a container runtime limits a group, and each group above it may have a limit too: the tightest
counts. ``/proc/self/cgroup`` names the group, ``/proc/self/mountinfo`` tells where the hierarchy is mounted. Inside a
container both begin at the container's own group. Of those above nothing can be seen but, in version 1, their limit.

Page cache that the kernel takes back when memory is short does not count as used. ``MemAvailable``, which counts
for the machine, leaves it out as well, and the two must not disagree. The kubelet leaves out less: what was not used
lately (``inactive_file``). But weights that were mapped stay ``active_file`` until somebody needs the room, so that
unloading a model would free nothing.
"""

import errno
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

_ESCAPED = re.compile(r"\\([0-7]{3})")  # how mountinfo writes spaces
_UNLIMITED = 1 << 60  # version 1 writes a limit of nearly 2**63 where there is none


@dataclass(frozen=True, slots=True)
class CgroupFiles:
    """The names of what is read in a group."""

    limits: tuple[str, ...]
    usage: str
    cache: tuple[str, ...]  # fields of memory.stat: page cache, and what else is taken back like it
    limit_above: str = ""  # field of memory.stat with the tightest limit of the groups above, seen or not


_V2 = CgroupFiles(
    limits=("memory.max", "memory.high"),  # beyond the latter all in the group are slowed down to a crawl
    usage="memory.current",
    cache=("inactive_file", "active_file", "slab_reclaimable"),
)
_V1 = CgroupFiles(
    limits=("memory.limit_in_bytes",),
    usage="memory.usage_in_bytes",
    cache=("total_inactive_file", "total_active_file"),
    limit_above="hierarchical_memory_limit",
)


@dataclass(frozen=True, slots=True)
class Group:
    """One control group with a memory controller."""

    folder: Path
    files: CgroupFiles

    def limited(self) -> tuple[int, int] | None:
        """Its limit and what of it can be had now, in bytes; None if it has no limit, or is gone. Raises OSError."""
        stat = self._stat()
        limits = [self._number(name) for name in self.files.limits] + [stat.get(self.files.limit_above)]
        limit = min((each for each in limits if each is not None and each < _UNLIMITED), default=None)
        usage = self._number(self.files.usage)
        if limit is None or usage is None:
            return None
        used = max(0, usage - sum(stat.get(field, 0) for field in self.files.cache))
        return limit, max(0, limit - used)

    def _number(self, name: str) -> int | None:
        text = self._read(name).strip()
        return int(text) if text.isdigit() else None  # or "max"

    def _stat(self) -> dict[str, int]:
        pairs = (line.split() for line in self._read("memory.stat").splitlines())
        return {name.decode(): int(value) for name, value in pairs}

    def _read(self, name: str) -> bytes:
        """Nothing where there is no such file: the root of a hierarchy has few, and a group may have been removed."""
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENODEV}:
                return b""
            raise


@cache
def own(root: Path = Path("/")) -> tuple[Group, ...]:
    """The groups this process was in when this was first asked, each with those above it that can be seen."""
    mounts = list(_mounts(root))
    found = []
    for line in (root / "proc/self/cgroup").read_text(errors="surrogateescape").splitlines():
        number, controllers, path = line.split(":", 2)
        files = _V2 if number == "0" and not controllers else _V1 if "memory" in controllers.split(",") else None
        for mount in mounts:
            if mount.files is files:
                found += [Group(folder, mount.files) for folder in _upwards(mount, path)]
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Mount:
    """Where a hierarchy can be seen: ``root`` is the group that is at ``folder``."""

    root: PurePosixPath
    folder: Path
    files: CgroupFiles


def _mounts(root: Path) -> Iterator[_Mount]:
    for line in (root / "proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        fields, (kind, _, options, *_) = before.split(), after.split()
        if kind == "cgroup2" or (kind == "cgroup" and "memory" in options.split(",")):
            group, place = (_ESCAPED.sub(lambda code: chr(int(code[1], 8)), field) for field in fields[3:5])
            yield _Mount(PurePosixPath(group), root / place.lstrip("/"), _V2 if kind == "cgroup2" else _V1)


def _upwards(mount: _Mount, path: str) -> Iterator[Path]:
    """The folder of a group and of those above it. What cannot be placed below the mount is taken to be its top."""
    group = PurePosixPath(path)
    below = group.relative_to(mount.root) if group.is_relative_to(mount.root) else PurePosixPath()
    folder = mount.folder / below
    if ".." in below.parts or not folder.is_dir():
        folder = mount.folder
    yield folder
    while folder != mount.folder:
        folder = folder.parent
        yield folder
