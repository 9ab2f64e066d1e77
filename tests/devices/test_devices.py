"""Devices: host memory for real, a card through a stand-in for the driver's library."""

import errno
import os
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from cohabit.devices import DeviceError, cpu, device_for, parse_kind
from cohabit.devices.cpu import Cpu, group_members, pss
from harness import wait_until

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
    monkeypatch.setattr(Path, "read_bytes", raising(PermissionError()))
    assert abs(pss(os.getpid()) - psutil.Process().memory_info().rss) < 8 * MIB
    monkeypatch.setattr(psutil, "Process", lambda pid: (_ for _ in ()).throw(psutil.NoSuchProcess(pid)))
    assert pss(os.getpid()) == 0


def raising(error: Exception) -> Callable[..., Any]:
    """A function that raises it."""

    def function(*_: object) -> Any:
        raise error

    return function


@pytest.mark.process
def test_process_whose_name_is_cut_inside_a_character_is_read_like_any_other(tmp_path: Path) -> None:
    odd = tmp_path / f"{'a' * 14}ü"  # the kernel keeps 15 bytes of it
    odd.symlink_to("/bin/sleep")
    with subprocess.Popen([odd, "60"], start_new_session=True) as process:
        try:
            wait_until(lambda: b"aaaaaaaaaaaaaa\xc3)" in Path(f"/proc/{process.pid}/stat").read_bytes())
            assert group_members()[process.pid] == [process.pid]
            assert Cpu().read({1: process.pid}).workers[1] > 0
        finally:
            process.kill()


@pytest.mark.parametrize("stat", [b"7 (a) b) c\n) S 1 70 7 0", b"7 (\xff\xc3) S -1 70 7 0", b"7 () S 1 70 7 0"])
def test_name_of_a_process_may_hold_anything(monkeypatch: pytest.MonkeyPatch, stat: bytes) -> None:
    monkeypatch.setattr(psutil, "pids", lambda: [7])
    monkeypatch.setattr(Path, "read_bytes", lambda _: stat)
    assert group_members() == {70: [7]}


@pytest.mark.parametrize(
    "stat", [b"", b"7 (a", b"7 (a) S\n", FileNotFoundError(), ProcessLookupError(), PermissionError()]
)
def test_process_that_cannot_be_told_is_left_out(monkeypatch: pytest.MonkeyPatch, stat: bytes | OSError) -> None:
    monkeypatch.setattr(psutil, "pids", lambda: [7])
    read = raising(stat) if isinstance(stat, OSError) else lambda _: stat
    monkeypatch.setattr(Path, "read_bytes", read)
    assert group_members() == {}


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), OSError(errno.EIO, "I/O error")])
def test_reading_without_file_descriptors_fails_as_a_whole(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    """A worker whose file cannot be opened is not one that holds nothing."""
    monkeypatch.setattr(Path, "read_bytes", raising(error))
    with pytest.raises(DeviceError, match=r"cannot be read: .*(Too many open files|I/O error)"):
        Cpu().read({1: os.getpgrp()})


class NvmlError(Exception):
    """As the binding's."""


class NotSupported(NvmlError):
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
        "NVMLError_NotSupported": NotSupported,
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


@pytest.mark.parametrize("free", [(20 << 30, 17 << 30), (17 << 30, 20 << 30)], ids=["takes", "gives back"])
def test_memory_that_a_worker_takes_or_gives_back_during_a_reading_is_not_free(
    monkeypatch: pytest.MonkeyPatch, free: tuple[int, int]
) -> None:
    module = driver()
    seen = iter(SimpleNamespace(total=24 << 30, free=size) for size in free)
    monkeypatch.setattr(module, "nvmlDeviceGetMemoryInfo", lambda _: next(seen))
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert device_for("cuda:0").read({1: os.getpgrp()}).available == 17 << 30


@pytest.mark.parametrize("free", [(9, 5), (5, 9)], ids=["takes", "gives back"])
def test_memory_that_changes_during_a_reading_of_the_machine_is_not_free(
    monkeypatch: pytest.MonkeyPatch, free: tuple[int, int]
) -> None:
    seen = iter((100, available) for available in free)
    monkeypatch.setattr(cpu, "memory", lambda: next(seen))
    assert Cpu().read({}).available == 5


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


def test_figures_that_no_card_can_have_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    odd = [SimpleNamespace(pid=os.getpid(), usedGpuMemory=2**64 - 1)]
    monkeypatch.setitem(sys.modules, "pynvml", driver(processes=odd))
    assert device_for("cuda:0").read({1: os.getpgrp()}).workers == {}


def test_driver_without_figures_of_processes_still_tells_of_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    module = driver()
    monkeypatch.setattr(module, "nvmlDeviceGetComputeRunningProcesses", raising(NotSupported("Not Supported")))
    monkeypatch.setitem(sys.modules, "pynvml", module)
    reading = device_for("cuda:0").read({1: os.getpgrp()})
    assert (reading.total, reading.workers) == (24 << 30, {})


@pytest.mark.parametrize("name", ["nvmlDeviceGetMemoryInfo", "nvmlDeviceGetComputeRunningProcesses"])
def test_card_is_opened_anew_after_its_driver_failed(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    module = driver()
    monkeypatch.setitem(sys.modules, "pynvml", module)
    card = device_for("cuda:0")
    with monkeypatch.context() as failing:
        failing.setattr(module, name, raising(NvmlError("GPU is lost")))
        with pytest.raises(DeviceError, match="cuda:0 cannot be read: GPU is lost"):
            card.read({})
        failing.setattr(module, "nvmlDeviceGetHandleByIndex", raising(NvmlError("Driver Not Loaded")))
        with pytest.raises(DeviceError, match="cuda:0 cannot be used: Driver Not Loaded"):
            card.read({})
    assert card.read({}).total == 24 << 30
