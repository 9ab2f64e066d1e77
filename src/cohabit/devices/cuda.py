"""One CUDA card through NVML (the driver's own library; nvidia-ml-py binds it)."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, TypeVar

from cohabit.devices import DeviceError, DeviceReading
from cohabit.devices.cpu import group_members

T = TypeVar("T")
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
        self._index = index
        self._handle = self._open()

    def total_bytes(self) -> int:
        """Memory of the card. Raises DeviceError."""
        return self._query(lambda: int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).total))

    def read(self, workers: Mapping[int, int]) -> DeviceReading:
        """Per-process figures of the driver. Where it has none (WSL) a worker is missing from the reading.

        Raises DeviceError if the driver fails; the next reading then opens the card anew, since a driver that was
        reloaded does not know the old handle.
        """
        return self._query(lambda: self._reading(workers))

    def _reading(self, workers: Mapping[int, int]) -> DeviceReading:
        if self._handle is None:
            self._handle = self._open()
        before = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        used = self._used(int(before.total))
        after = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        groups = group_members()
        return DeviceReading(
            total=int(before.total),
            available=min(int(before.free), int(after.free)),
            workers={
                worker: sum(used.get(member, 0) for member in groups.get(pid, ()))
                for worker, pid in workers.items()
                if any(member in used for member in groups.get(pid, ()))
            },
        )

    def _open(self) -> Any:
        try:
            self._nvml.nvmlInit()
            return self._nvml.nvmlDeviceGetHandleByIndex(self._index)
        except self._nvml.NVMLError as error:
            raise DeviceError(
                f"cuda:{self._index} cannot be used: {error}; `nvidia-smi` tells what is there"
            ) from None

    def _used(self, total: int) -> dict[int, int]:
        """Bytes by process, as far as the driver knows them."""
        try:
            processes = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError_NotSupported:
            return {}
        used: dict[int, int] = {}
        for process in processes:
            size = process.usedGpuMemory
            if size is not None and 0 <= int(size) <= total:  # some drivers give 2**64 - 1 for "not available"
                used[process.pid] = used.get(process.pid, 0) + int(size)
        return used

    def _query(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except (self._nvml.NVMLError, OSError, ValueError) as error:
            self._handle = None
            raise DeviceError(f"cuda:{self._index} cannot be read: {error}") from error
