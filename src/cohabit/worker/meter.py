"""What this worker holds of its device, now and at most since a moment.

Of host memory the kernel keeps the high mark. The driver of a card has none, so that the card is looked at again and
again while something goes on.
"""

import ctypes
import os
import threading
import time
from importlib import import_module
from typing import Any, Protocol

from cohabit.protocol.memory import peak_and_resident, reset_peak
from cohabit.protocol.spec import Device
from cohabit.worker.threads import begin

_TORCH = "OutOfMemoryError"  # torch.OutOfMemoryError is a RuntimeError; its class is known without importing torch
_ONNX_RUNTIME = "onnxruntime."
_ONNX_RUNTIME_TEXTS = (
    "Failed to allocate memory",  # its arena, on the host and on a card
    "out of memory",  # cudaErrorMemoryAllocation
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
EVERY = 0.01  # seconds between two looks at a card


def uses_cuda(index: int) -> bool:
    """Whether this process has a context on a card.

    The driver is asked without being initialised: where nobody has done that there is none. Source: NVIDIA's CUDA
    Driver API, "Primary Context Management"; engines' libraries use the primary context of a card.
    """
    try:
        cuda: Any = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    flags, active = ctypes.c_uint(), ctypes.c_int()
    code = cuda.cuDevicePrimaryCtxGetState(index, ctypes.byref(flags), ctypes.byref(active))
    return code == 0 and active.value != 0


class Meter(Protocol):
    """Bytes."""

    def begin(self) -> None:
        """A stretch of work begins: the peak is counted from here."""

    def read(self) -> tuple[int, int]:
        """The peak of the stretch so far, and what is held now, which is never more.

        Raises whatever the system or the driver raises where they cannot tell.
        """

    def end(self) -> None:
        """It is over."""


def meter_for(device: Device) -> Meter:
    """Of the memory that is booked: the card's where the model runs on one."""
    return HostMeter() if device.kind == "cpu" else CardMeter(device.index)


class HostMeter:
    """The kernel's own marks."""

    def begin(self) -> None:
        """A new high mark."""
        reset_peak()

    def read(self) -> tuple[int, int]:
        """Both marks."""
        return peak_and_resident()

    def end(self) -> None:
        """The mark goes on by itself."""


class CardMeter:
    """What the driver says of this process."""

    def __init__(self, index: int) -> None:
        """Of a card by its index. Raises ImportError without nvidia-ml-py, and what NVML raises without a card."""
        self._nvml: Any = import_module("pynvml")
        self._nvml.nvmlInit()
        self._card = self._nvml.nvmlDeviceGetHandleByIndex(index)
        self._index = index
        self._before = self._all()
        self._peak = 0
        self._watching = threading.Event()
        self._lock = threading.Lock()
        begin("meter", self._watch)

    def begin(self) -> None:
        """Look again and again, until the end."""
        with self._lock:
            self._peak = 0
        self._watching.set()

    def read(self) -> tuple[int, int]:
        """The largest of all looks, and one now.

        Where the driver does not tell of this process, though it uses the card, as in a container of its own process
        ids, it is what the card has less than when the worker began: others who came and went are in it.
        """
        with self._lock:
            held = self._own()
            if held is None:
                held = max(0, self._all() - self._before) if uses_cuda(self._index) else 0
            self._peak = max(self._peak, held)
            return self._peak, held

    def end(self) -> None:
        """Look no more."""
        self._watching.clear()

    def _watch(self) -> None:
        while self._watching.wait():
            with self._lock:  # a look that began before a stretch is none of it
                try:
                    held = self._own()
                except self._nvml.NVMLError:
                    held = None  # the driver may fail for a moment; the next look tells
                if held is not None:
                    self._peak = max(self._peak, held)
            time.sleep(EVERY)

    def _own(self) -> int | None:
        sizes = [
            process.usedGpuMemory
            for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(self._card)
            if process.pid == os.getpid() and process.usedGpuMemory is not None
        ]
        return sum(sizes) if sizes else None

    def _all(self) -> int:
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._card).used)


def lacked_memory(error: BaseException) -> bool:
    """Whether an error of an engine's library means that memory ran out: only some of them raise MemoryError.

    Only ONNX Runtime's text is looked at: it has no class of its own for this.
    """
    if isinstance(error, MemoryError) or type(error).__name__ == _TORCH:
        return True
    return type(error).__module__.startswith(_ONNX_RUNTIME) and any(
        text in str(error) for text in _ONNX_RUNTIME_TEXTS
    )
