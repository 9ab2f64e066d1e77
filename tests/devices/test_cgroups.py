"""Memory limits of control groups: a tree of files as the kernel shows it, and a real group where one can be made."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from cohabit.devices import DeviceError, cgroups
from cohabit.devices.cpu import Cpu

GIB = 1 << 30
NONE = (1 << 63) - 4096  # how version 1 says it
MACHINE = 1 << 50
V1 = "23 1 0:2 {root} /sys/fs/cgroup/memory rw,nosuid shared:5 - cgroup cgroup rw,memory"
V2 = "24 1 0:3 {root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"


class Machine:
    """Files below a folder that stand for a machine's."""

    def __init__(self, root: Path, cgroup: str, *mounts: str) -> None:
        self._root = root
        proc = root / "proc" / "self"
        proc.mkdir(parents=True)
        (proc / "cgroup").write_text(cgroup)
        (proc / "mountinfo").write_text("\n".join(["21 1 0:1 / /proc rw - proc proc rw", *mounts]))

    def group(self, path: str, stat: Mapping[str, int] | None = None, **files: object) -> None:
        """A group at a path; ``memory_max`` is the file memory.max."""
        folder = self._root / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in files.items():
            (folder / name.replace("memory_", "memory.", 1)).write_text(f"{value}\n")
        (folder / "memory.stat").write_text("".join(f"{name} {value}\n" for name, value in (stat or {}).items()))

    def v1(self, path: str, limit: int, usage: int, **stat: int) -> None:
        """One of version 1."""
        self.group(path, stat, memory_limit_in_bytes=limit, memory_usage_in_bytes=usage)

    def tightest(self) -> tuple[int, int] | None:
        """Limit and what can be had."""
        found = [limited for group in cgroups.own(self._root) if (limited := group.limited()) is not None]
        return (min(limit for limit, _ in found), min(left for _, left in found)) if found else None


@pytest.fixture(autouse=True)
def _each_asks_anew() -> Iterator[None]:
    yield
    cgroups.own.cache_clear()


def test_the_limit_of_a_systemd_unit(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0::/system.slice/cohabit.service\n", V2.format(root="/"))
    machine.group("sys/fs/cgroup")
    machine.group("sys/fs/cgroup/system.slice", memory_max="max", memory_high="max", memory_current=9 * GIB)
    machine.group(
        "sys/fs/cgroup/system.slice/cohabit.service", memory_max=8 * GIB, memory_high="max", memory_current=3 * GIB
    )
    assert machine.tightest() == (8 * GIB, 5 * GIB)


def test_memory_high_is_a_limit_too(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0::/a\n", V2.format(root="/"))
    machine.group("sys/fs/cgroup/a", memory_max=8 * GIB, memory_high=6 * GIB, memory_current=GIB)
    assert machine.tightest() == (6 * GIB, 5 * GIB)


def test_the_limit_of_a_group_above_counts_and_who_else_is_in_it(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0::/pods/pod/container\n", V2.format(root="/"))
    machine.group("sys/fs/cgroup/pods", memory_max=16 * GIB, memory_current=15 * GIB)
    machine.group("sys/fs/cgroup/pods/pod", memory_max=4 * GIB, memory_current=2 * GIB)
    machine.group("sys/fs/cgroup/pods/pod/container", memory_max="max", memory_current=GIB)
    assert machine.tightest() == (4 * GIB, GIB)


@pytest.mark.parametrize(
    ("field", "left"),
    [("inactive_file", 7), ("active_file", 7), ("slab_reclaimable", 7), ("anon", 1), ("shmem", 1), ("file", 1)],
)
def test_page_cache_that_is_taken_back_can_be_had(tmp_path: Path, field: str, left: int) -> None:
    machine = Machine(tmp_path, "0::/a\n", V2.format(root="/"))
    machine.group("sys/fs/cgroup/a", {field: 6 * GIB}, memory_max=8 * GIB, memory_current=7 * GIB)
    assert machine.tightest() == (8 * GIB, left * GIB)


def test_version_1(tmp_path: Path) -> None:
    machine = Machine(
        tmp_path, "5:cpu,cpuacct:/x\n4:hugetlb,memory:/docker/abc\n0::/init.scope\n", V1.format(root="/")
    )
    machine.v1("sys/fs/cgroup/memory/docker", NONE, 20 * GIB)
    machine.v1("sys/fs/cgroup/memory/docker/abc", 8 * GIB, 7 * GIB, total_inactive_file=3 * GIB, inactive_file=5)
    assert machine.tightest() == (8 * GIB, 4 * GIB)


def test_the_limit_above_a_container_of_version_1_is_known(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "4:memory:/docker/abc\n", V1.format(root="/docker/abc"))
    machine.v1("sys/fs/cgroup/memory", NONE, GIB, hierarchical_memory_limit=4 * GIB)
    assert machine.tightest() == (4 * GIB, 3 * GIB)


@pytest.mark.parametrize(
    ("cgroup", "root"),
    [
        ("/", "/"),  # a namespace of its own
        ("/docker/abc", "/docker/abc"),  # the host's names, and only its own group is mounted
        ("/docker/abc", "/"),  # the host's names, and the mount does not have them
        ("/../other", "/"),  # moved out of the namespace's root
        ("/a", "/../.."),  # what is mounted is of outside the namespace
    ],
)
def test_inside_a_container_the_mount_is_its_group(tmp_path: Path, cgroup: str, root: str) -> None:
    machine = Machine(tmp_path, f"0::{cgroup}\n", V2.format(root=root))
    machine.group("sys/fs/cgroup", memory_max=4 * GIB, memory_current=GIB)
    assert machine.tightest() == (4 * GIB, 3 * GIB)


def test_a_group_within_a_container(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "0::/docker/abc/inner\n", V2.format(root="/docker/abc"))
    machine.group("sys/fs/cgroup", memory_max=4 * GIB, memory_current=2 * GIB)
    machine.group("sys/fs/cgroup/inner", memory_max=3 * GIB, memory_current=GIB)
    assert machine.tightest() == (3 * GIB, 2 * GIB)


def test_a_place_with_a_space_in_its_name(tmp_path: Path) -> None:
    mount = r"24 1 0:3 / /mnt/control\040groups rw - cgroup2 cgroup2 rw"
    machine = Machine(tmp_path, "0::/a\n", mount)
    machine.group("mnt/control groups/a", memory_max=4 * GIB, memory_current=GIB)
    assert machine.tightest() == (4 * GIB, 3 * GIB)


@pytest.mark.parametrize("usage", [9 * GIB, 8 * GIB])
def test_a_group_that_is_full_has_nothing_left(tmp_path: Path, usage: int) -> None:
    machine = Machine(tmp_path, "0::/a\n", V2.format(root="/"))
    machine.group("sys/fs/cgroup/a", memory_max=8 * GIB, memory_current=usage)
    assert machine.tightest() == (8 * GIB, 0)


def test_no_limit_or_no_controller_is_none(tmp_path: Path) -> None:
    machine = Machine(tmp_path, "4:memory:/a\n0::/b\n", V1.format(root="/"), V2.format(root="/"))
    machine.v1("sys/fs/cgroup/memory/a", NONE, GIB, hierarchical_memory_limit=NONE)
    (tmp_path / "sys/fs/cgroup/b").mkdir()
    assert machine.tightest() is None


def test_the_machine_counts_where_it_has_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, "0::/a\n", V2.format(root="/"))
    machine.group("sys/fs/cgroup/a")
    groups = cgroups.own(tmp_path)
    monkeypatch.setattr("cohabit.devices.cpu.cgroups.own", lambda: groups)
    for limit, usage in ((MACHINE, 5), (GIB, GIB // 2)):
        machine.group("sys/fs/cgroup/a", memory_max=limit, memory_current=usage)
        reading = Cpu().read({})
        assert reading.total == Cpu().total_bytes() == min(limit, psutil.virtual_memory().total)
        assert reading.available <= min(limit - usage, reading.total)


def test_what_cannot_be_read_is_no_missing_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(tmp_path, "0::/a\n", V2.format(root="/"))
    machine.group("sys/fs/cgroup/a", memory_current=1)
    (tmp_path / "sys/fs/cgroup/a/memory.max").mkdir()
    groups = cgroups.own(tmp_path)
    monkeypatch.setattr("cohabit.devices.cpu.cgroups.own", lambda: groups)
    with pytest.raises(DeviceError, match="cannot be read"):
        Cpu().read({})


LIMIT = 512 << 20
TELL = """
import json, os, sys
from pathlib import Path
Path(sys.argv[1], "cgroup.procs").write_text(str(os.getpid()))
from cohabit.devices.cpu import memory
before = memory()
Path(sys.argv[2]).write_bytes(os.urandom(200 << 20))  # is page cache of the group now
print(json.dumps([before, memory()]))
"""


@contextmanager
def real_group() -> Iterator[Path]:
    """A group of this machine with a limit of 512 MiB. Skips the test where none can be made, and says why."""
    cgroups.own.cache_clear()
    top = [group.folder for group in cgroups.own() if (group.folder / "memory.stat").exists()][-1:]
    folder = Path(*top, f"cohabit-test-{os.getpid()}")
    try:
        folder.mkdir()
        limit = next(name for name in ("memory.max", "memory.limit_in_bytes") if (folder / name).exists())
        (folder / limit).write_text(str(LIMIT))
    except (OSError, StopIteration) as error:
        pytest.skip(f"a control group with a limit can be made only by root, and not in most containers: {error!r}")
    try:
        yield folder
    finally:
        folder.rmdir()


@pytest.mark.process
def test_a_real_group_with_page_cache_in_it() -> None:
    with real_group() as group, tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        told = subprocess.run(
            [sys.executable, "-c", TELL, group, Path(folder) / "file"], check=True, capture_output=True, text=True
        )
    (total, before), (same, after) = json.loads(told.stdout)
    assert total == same == LIMIT
    assert LIMIT // 2 < before < LIMIT
    assert after > before - (50 << 20), "what was written is taken back when memory is short"
