"""What this process itself holds, read from the kernel.

Footprints are learned from the resident set (what a worker is when it is alone); the budget is compared with
proportional sizes, which only the control plane samples. Linux: ``Documentation/filesystems/proc.rst``.
"""

import ctypes
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


def _status_bytes(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise LookupError(f"/proc/self/status has no {field}")


def resident_bytes() -> int:
    """Bytes resident now (VmRSS)."""
    return _status_bytes("VmRSS:")


def peak_bytes() -> int:
    """Largest resident size since the start or the last ``reset_peak`` (VmHWM), in bytes."""
    return _status_bytes("VmHWM:")


def reset_peak() -> bool:
    """Start a new peak reading. False where the kernel refuses, so that peaks are then since the start."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True


def give_back() -> None:
    """Return to the kernel what was freed and the C library still keeps (glibc's malloc_trim; elsewhere nothing)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
