"""What this process itself holds, read from the kernel.

Footprints are learned from the resident set (what a worker is when it is alone); the budget is compared with
proportional sizes, which only the control plane samples. Linux: ``Documentation/filesystems/proc.rst``.
"""

import ctypes
import os
import re
from functools import cache

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # of <malloc.h>
_SIZES = re.compile(rb"VmHWM:\s+(\d+) kB\nVmRSS:\s+(\d+) kB")


@cache
def _open(process: int, name: str, mode: int) -> int:
    # Kept open, since they are used for every run. Of the process it is asked for: a fork has its own.
    return os.open(f"/proc/{process}/{name}", mode | os.O_CLOEXEC)


def peak_and_resident() -> tuple[int, int]:
    """The largest resident size since the start or the last ``reset_peak`` (VmHWM), and that now (VmRSS); bytes.

    The kernel keeps its high mark some pages late: here it is at least what is resident.
    """
    match = _SIZES.search(os.pread(_open(os.getpid(), "status", os.O_RDONLY), 4096, 0))
    if match is None:
        raise LookupError("/proc/self/status does not tell of VmHWM and VmRSS")
    peak, resident = (int(size) * 1024 for size in match.groups())
    return max(peak, resident), resident


def resident_bytes() -> int:
    """Bytes resident now."""
    return peak_and_resident()[1]


def reset_peak() -> bool:
    """Start a new peak reading. False where the kernel refuses, so that peaks are then since the start."""
    try:
        os.write(_open(os.getpid(), "clear_refs", os.O_WRONLY), b"5")
    except OSError:
        return False
    return True


def give_back() -> None:
    """Return to the kernel what was freed and the C library still keeps (glibc's malloc_trim; elsewhere nothing)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def tune_allocator() -> None:
    """Let glibc return what is freed, at the price of more system calls; elsewhere nothing (``man mallopt``).

    By itself it raises the sizes from which on memory is mapped, and so returned, with what is freed: after one large
    body it would keep hundreds of MiB. And every thread would have a pool of its own.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for option, value in ((_M_ARENA_MAX, 2), (_M_MMAP_THRESHOLD, 128 << 10), (_M_TRIM_THRESHOLD, 128 << 10)):
            mallopt(option, value)
