"""One CUDA card through NVML (the driver's own library; nvidia-ml-py binds it)."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from cohabit.devices.cpu import group_members
from cohabit.devices.reading import DeviceError, Reading

CONTEXT_BYTES = 512 << 20
"""What a process takes on a card before it has allocated anything, as a first guess: measured with every load."""


class Cuda:
    """A card by its index."""

    def __init__(self, index: int) -> None:
        """Raises DeviceError if there is no such card or no driver."""
        try:
            self._nvml: Any = import_module("pynvml")
        except ImportError:
            raise DeviceError("cuda needs NVIDIA's management library: pip install 'cohabit[cuda]'") from None
        try:
            self._nvml.nvmlInit()
            self._handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
        except self._nvml.NVMLError as error:
            raise DeviceError(f"cuda:{index} cannot be used: {error}; `nvidia-smi` tells what is there") from None

    def total_bytes(self) -> int:
        """Memory of the card."""
        return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).total)

    def read(self, workers: Mapping[int, int]) -> Reading:
        """Per-process figures of the driver. Where it has none (WSL) a worker is missing from the reading."""
        memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        used: dict[int, int] = {}
        for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle):
            if process.usedGpuMemory is not None:
                used[process.pid] = used.get(process.pid, 0) + int(process.usedGpuMemory)
        groups = group_members()
        return Reading(
            total=int(memory.total),
            available=int(memory.free),
            workers={
                worker: sum(used.get(member, 0) for member in groups.get(pid, ()))
                for worker, pid in workers.items()
                if any(member in used for member in groups.get(pid, ()))
            },
        )
