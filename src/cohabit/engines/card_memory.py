"""Memory on a card through the driver's own library, for the engine ``fake``: it needs neither torch nor a toolkit.

Source: NVIDIA's CUDA Driver API, "Memory Management" and "Primary Context Management".
"""

import ctypes
import weakref
from collections.abc import Callable
from typing import Any

_OUT_OF_MEMORY = 2  # CUDA_ERROR_OUT_OF_MEMORY


class CardError(RuntimeError):
    """The driver said no; the number is its own."""


class Card:
    """One card, in this process."""

    def __init__(self, index: int) -> None:
        """Makes the process's context on it, which takes memory. Raises CardError, OSError without a driver."""
        self._cuda: Any = ctypes.CDLL("libcuda.so.1")
        device, self._context = ctypes.c_int(), ctypes.c_void_p()
        self._do("cuInit", 0)
        self._do("cuDeviceGet", ctypes.byref(device), index)
        self._do("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)

    def touched(self, size: int) -> object:
        """So many bytes, written to; freed with the object. Raises MemoryError if the card has not so many."""
        return self._taken(size, lambda to: self._do("cuMemsetD8_v2", to, ctypes.c_ubyte(1), ctypes.c_size_t(size)))

    def pinned(self, content: bytearray) -> "Pinned":
        """These bytes, from now on where the card reads them by itself, which is several times as fast."""
        self._do("cuCtxSetCurrent", self._context)
        pinned = Pinned(content)
        self._do("cuMemHostRegister_v2", pinned.start, ctypes.c_size_t(len(content)), ctypes.c_uint(0))
        weakref.finalize(pinned, self._unpin, pinned.start)
        return pinned

    def filled(self, content: "Pinned") -> object:
        """As many bytes as these, with them in it."""
        size = ctypes.c_size_t(len(content))
        return self._taken(len(content), lambda to: self._do("cuMemcpyHtoD_v2", to, content.start, size))

    def _taken(self, size: int, fill: Callable[[ctypes.c_uint64], None]) -> object:
        self._do("cuCtxSetCurrent", self._context)  # of this thread
        address = ctypes.c_uint64()
        if not size:
            return address
        self._do("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        held = _Held(address)
        weakref.finalize(held, self._free, address)
        fill(address)
        self._do("cuCtxSynchronize")
        return held

    def _unpin(self, start: ctypes.Array[ctypes.c_char]) -> None:
        self._do("cuCtxSetCurrent", self._context)
        self._do("cuMemHostUnregister", start)

    def _free(self, address: ctypes.c_uint64) -> None:
        self._do("cuCtxSetCurrent", self._context)
        self._do("cuMemFree_v2", address)

    def _do(self, name: str, *arguments: object) -> None:
        code = getattr(self._cuda, name)(*arguments)
        if code == _OUT_OF_MEMORY:
            raise MemoryError(f"{name} found too little memory on the card")
        if code:
            raise CardError(f"{name} failed with {code}")


class Pinned:
    """Host memory that stays where it is."""

    def __init__(self, content: bytearray) -> None:
        """Of at least one byte."""
        self.start = (ctypes.c_char * len(content)).from_buffer(content)

    def __len__(self) -> int:
        return len(self.start)


class _Held:
    """Stands for an allocation; what frees it hangs on this."""

    def __init__(self, address: ctypes.c_uint64) -> None:
        self.address = address
