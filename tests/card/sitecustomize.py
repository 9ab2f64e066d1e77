"""Puts a stand-in for CUDA's driver library in the place of ``libcuda.so.1``, for the card of ``books``."""

import ctypes
from itertools import count
from typing import Any

from card import books

OUT_OF_MEMORY = 2
CONTEXT = 40 << 20  # bytes that a context takes


class Driver:
    """The functions that cohabit calls, with their own names; memory is only counted."""

    def __init__(self) -> None:
        self.context = 0
        self.allocations: dict[int, int] = {}
        self.addresses = count(1)

    def __getattr__(self, name: str) -> Any:
        """Everything else succeeds."""
        return lambda *_: 0

    def cuDevicePrimaryCtxRetain(self, *_: Any) -> int:
        """A context, which takes memory."""
        return self._take(CONTEXT, as_context=True)

    def cuDevicePrimaryCtxGetState(self, _index: int, _flags: Any, active: Any) -> int:
        """Whether there is one."""
        active._obj.value = int(self.context > 0)
        return 0

    def cuMemAlloc_v2(self, address: Any, size: Any) -> int:
        """If there is so much."""
        address._obj.value = next(self.addresses)
        return self._take(size.value, address=address._obj.value)

    def cuMemFree_v2(self, address: Any) -> int:
        """Back to the card."""
        with books.changing(books.folder()):
            del self.allocations[address.value]
            self._tell()
        return 0

    def _take(self, size: int, *, address: int = 0, as_context: bool = False) -> int:
        where = books.folder()
        with books.changing(where):
            if books.used(where) + size > books.total(where):
                return OUT_OF_MEMORY
            if as_context:
                self.context = size
            else:
                self.allocations[address] = size
            self._tell()
        return 0

    def _tell(self) -> None:
        books.hold(books.folder(), self.context + sum(self.allocations.values()))


class _Libraries(ctypes.CDLL):
    """As ``ctypes.CDLL``, but for one name."""

    def __new__(cls, name: str | None = None, *rest: Any, **more: Any) -> Any:
        """The one driver, or the library."""
        return DRIVER if name == "libcuda.so.1" else _cdll(name, *rest, **more)


DRIVER = Driver()
_cdll = ctypes.CDLL
ctypes.CDLL = _Libraries  # type: ignore[misc]  # what this file is for
