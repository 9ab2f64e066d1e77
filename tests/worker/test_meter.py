"""What a worker says that it holds: of host memory the kernel's marks, of a card what the driver shows over time."""

import os
import sys
import threading
import types
from mmap import mmap
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from cohabit.protocol.spec import Device
from cohabit.worker.meter import CardMeter, HostMeter, lacked_memory, meter_for, uses_cuda
from harness import wait_until

MIB = 1 << 20


class Card:
    """NVML's binding over a card that the test fills."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ours: int | None = None
        self.others = 0
        self.looks = 0
        module = types.ModuleType("pynvml")
        for name, value in {
            "NVMLError": OSError,
            "nvmlInit": lambda: None,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetMemoryInfo": lambda _: SimpleNamespace(used=self.others + (self.ours or 0)),
            "nvmlDeviceGetComputeRunningProcesses": self.processes,
        }.items():
            setattr(module, name, value)
        monkeypatch.setitem(sys.modules, "pynvml", module)
        self.told = True
        self.fails = False

    def is_looked_at(self) -> None:
        """As it is now: the look that may be under way, and one more."""
        looks = self.looks
        wait_until(lambda: self.looks > looks + 1)

    def processes(self, _: int) -> list[SimpleNamespace]:
        self.looks += 1
        if self.fails:
            raise OSError("Unknown Error")
        found = [SimpleNamespace(pid=1 << 22, usedGpuMemory=self.others)]
        if self.told and self.ours is not None:
            found.append(SimpleNamespace(pid=os.getpid(), usedGpuMemory=self.ours))
        return found


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Card:
    return Card(monkeypatch)


def test_of_a_model_on_the_host() -> None:
    meter = meter_for(Device("cpu"))
    assert isinstance(meter, HostMeter)
    meter.begin()
    _, before = meter.read()
    held = mmap(-1, 64 * MIB)  # new pages, where a heap may have had some to spare
    held.write(b"\1" * (64 * MIB))
    peak, resident = meter.read()
    assert resident >= before + 60 * MIB
    held.close()
    peak, after = meter.read()
    assert peak >= resident - MIB, "the kernel keeps its mark some pages late"
    assert after < resident - 40 * MIB
    meter.end()


def test_a_peak_on_a_card_that_is_gone_when_it_is_asked_for(card: Card) -> None:
    meter = meter_for(Device("cuda", 0))
    card.ours, card.others = 100, 10_000
    meter.begin()
    card.ours = 500
    card.is_looked_at()
    card.ours = 200
    assert meter.read() == (500, 200)
    meter.end()
    meter.begin()
    assert meter.read() == (200, 200), "a new stretch has a peak of its own"
    meter.end()


def test_a_driver_that_fails_for_a_moment_does_not_end_the_watch(card: Card) -> None:
    meter = CardMeter(0)
    meter.begin()
    card.fails = True
    card.is_looked_at()
    with pytest.raises(OSError, match="Unknown Error"):
        meter.read()
    card.fails, card.ours = False, 500
    card.is_looked_at()
    card.ours = 200
    assert meter.read() == (500, 200)
    meter.end()


def test_nobody_looks_while_nothing_goes_on(card: Card) -> None:
    meter = meter_for(Device("cuda", 0))
    meter.begin()
    card.is_looked_at()
    meter.end()
    threading.Event().wait(0.05)  # for a look that was under way
    looks = card.looks
    threading.Event().wait(0.1)
    assert card.looks == looks


def test_where_the_driver_does_not_tell_of_us(card: Card, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cohabit.worker.meter.uses_cuda", lambda _: True)
    card.told, card.others = False, 1000
    meter = CardMeter(0)
    meter.begin()
    card.ours = 300
    assert meter.read() == (300, 300)
    card.others = 0
    assert meter.read() == (300, 0), "never below nothing"
    meter.end()


def test_a_model_that_leaves_the_card_alone_holds_nothing_of_it(card: Card) -> None:
    meter = CardMeter(0)
    meter.begin()
    card.others = 10_000
    assert meter.read() == (0, 0)
    meter.end()


@pytest.mark.parametrize(("code", "active", "used"), [(0, 1, True), (0, 0, False), (3, 0, False)])
def test_a_context_is_there_if_the_driver_says_so(
    code: int, active: int, used: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state(_index: int, _flags: object, told: Any) -> int:
        told._obj.value = active
        return code

    driver = SimpleNamespace(cuDevicePrimaryCtxGetState=state)
    monkeypatch.setattr("cohabit.worker.meter.ctypes.CDLL", lambda _: driver)
    assert uses_cuda(0) == used


def test_without_a_driver_there_is_no_context(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise OSError

    monkeypatch.setattr("cohabit.worker.meter.ctypes.CDLL", missing)
    assert not uses_cuda(0)


def test_memory_of_other_processes_is_not_counted_as_ours(card: Card) -> None:
    meter = CardMeter(0)
    meter.begin()
    card.others = 10_000
    card.is_looked_at()
    card.ours = 5
    assert meter.read() == (5, 5)
    meter.end()


def raised_by_onnx_runtime(size: int) -> Exception:
    """What a model raises that makes so many numbers; a negative size is no shape at all."""
    node = helper.make_node("ConstantOfShape", ["shape"], ["out"])
    graph = helper.make_graph(
        [node],
        "fill",
        [helper.make_tensor_value_info("shape", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [None])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its class is what is looked at
        session.run(None, {"shape": np.array([size], np.int64)})
    return caught.value


def test_onnx_runtime_finds_no_room() -> None:
    error = raised_by_onnx_runtime(1 << 44)
    assert not isinstance(error, MemoryError)
    assert lacked_memory(error)


def test_onnx_runtime_fails_for_another_reason() -> None:
    assert not lacked_memory(raised_by_onnx_runtime(-1))


def test_python_and_torch() -> None:
    class OutOfMemoryError(RuntimeError):
        """Torch's has this name."""

    assert lacked_memory(MemoryError())
    assert lacked_memory(OutOfMemoryError("CUDA out of memory"))


def test_what_others_say_of_memory_is_not_heeded() -> None:
    assert not lacked_memory(ValueError("out of memory"))
