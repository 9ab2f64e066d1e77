"""Devices: host memory for real, a card through a stand-in for the driver's library."""

import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from cohabit.devices import DeviceError, cpu, device_for, parse_kind
from cohabit.devices.cpu import Cpu, group_members, pss
from harness import uncovered

MIB = 1 << 20


@pytest.mark.parametrize(
    ("kind", "parsed"), [("cpu", ("cpu", 0)), ("cuda:0", ("cuda", 0)), ("cuda:12", ("cuda", 12))]
)
def test_kinds(kind: str, parsed: tuple[str, int]) -> None:
    assert parse_kind(kind) == parsed


@pytest.mark.parametrize("kind", ["", "gpu", "cuda", "cuda:", "cuda:x", "cpu:0", "cuda:-1"])
def test_what_is_no_device(kind: str) -> None:
    with pytest.raises(DeviceError, match="use cpu or cuda:0"):
        parse_kind(kind)


HOLDS = """
import subprocess, sys
memory = bytearray({size}); memory[::4096] = b"x" * len(range(0, len(memory), 4096))
{then}
print("ready", flush=True); sys.stdin.read()
"""
CHILD = "child = subprocess.Popen([sys.executable, '-c', {code!r}], stdin=0, stdout=1)\nchild.stdout"


@pytest.fixture
def family() -> Iterator[subprocess.Popen[str]]:
    """A process of 40 MiB and its child of 30 MiB, in a group of their own."""
    inner = HOLDS.format(size=30 * MIB, then="")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS.format(size=40 * MIB, then=CHILD.format(code=inner))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=uncovered(),
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert [process.stdout.readline() for _ in range(2)] == ["ready\n"] * 2
    yield process
    process.stdin.close()
    process.stdout.close()
    process.wait()


@pytest.mark.process
def test_a_workers_memory_is_that_of_its_process_group(family: subprocess.Popen[str]) -> None:
    assert len(group_members()[family.pid]) == 2
    reading = Cpu().read({7: family.pid, 8: 1 << 22})
    assert 70 * MIB < reading.workers[7] < 100 * MIB
    assert reading.workers[8] == 0, "nobody is there"
    assert 0 < reading.available < reading.total


def test_a_process_that_is_gone_holds_nothing() -> None:
    assert pss(1 << 22) == 0


def test_resident_memory_stands_in_where_the_kernel_keeps_pss_from_us(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> str:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", denied)
    assert abs(pss(os.getpid()) - psutil.Process().memory_info().rss) < 8 * MIB
    monkeypatch.setattr(psutil, "Process", lambda pid: (_ for _ in ()).throw(psutil.NoSuchProcess(pid)))
    assert pss(os.getpid()) == 0


GROUP = [("805306368", 256 * MIB), ("2000000000", 0)]


@pytest.mark.parametrize(("usage", "available"), GROUP)
def test_a_cgroups_limit_is_the_machines_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, usage: str, available: int
) -> None:
    files = (tmp_path / "max", tmp_path / "current")
    files[0].write_text("1073741824\n")
    files[1].write_text(f"{usage}\n")
    monkeypatch.setattr(cpu, "_CGROUPS", ((tmp_path / "none", tmp_path / "none"), files))
    reading = Cpu().read({})
    assert reading.total == Cpu().total_bytes() == 1 << 30
    assert reading.available == available


def test_a_cgroup_without_a_limit_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files = (tmp_path / "max", tmp_path / "current")
    files[0].write_text("max\n")
    files[1].write_text("1\n")
    monkeypatch.setattr(cpu, "_CGROUPS", (files,))
    assert Cpu().total_bytes() == psutil.virtual_memory().total


class NvmlError(Exception):
    """As the binding's."""


def driver(cards: int = 1, processes: object = ()) -> types.ModuleType:
    """The binding, with so many cards of 24 GiB of which 20 are free."""
    module = types.ModuleType("pynvml")

    def handle(index: int) -> int:
        if index >= cards:
            raise NvmlError("Invalid Argument")
        return index

    memory = SimpleNamespace(total=24 << 30, free=20 << 30)
    for name, value in {
        "NVMLError": NvmlError,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByIndex": handle,
        "nvmlDeviceGetMemoryInfo": lambda _: memory,
        "nvmlDeviceGetComputeRunningProcesses": lambda _: processes,
    }.items():
        setattr(module, name, value)
    return module


def test_a_card_through_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = os.getpgrp()
    processes = [
        SimpleNamespace(pid=os.getpid(), usedGpuMemory=3 << 30),
        SimpleNamespace(pid=os.getpid(), usedGpuMemory=1 << 30),
        SimpleNamespace(pid=1 << 22, usedGpuMemory=1),
    ]
    monkeypatch.setitem(sys.modules, "pynvml", driver(processes=processes))
    card = device_for("cuda:0")
    assert card.total_bytes() == 24 << 30
    reading = card.read({1: mine, 2: 1 << 21})
    assert (reading.total, reading.available) == (24 << 30, 20 << 30)
    assert reading.workers == {1: 4 << 30}, "a worker the driver does not know is not reported as empty"


def test_a_driver_that_tells_nothing_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = [SimpleNamespace(pid=os.getpid(), usedGpuMemory=None)]
    monkeypatch.setitem(sys.modules, "pynvml", driver(processes=silent))
    assert device_for("cuda:0").read({1: os.getpgrp()}).workers == {}


def test_a_card_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", driver(cards=1))
    with pytest.raises(DeviceError, match="cuda:3 cannot be used: Invalid Argument"):
        device_for("cuda:3")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(DeviceError, match=r"pip install 'cohabit\[cuda\]'"):
        device_for("cuda:0")
