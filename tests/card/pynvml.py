"""In the place of nvidia-ml-py, as far as cohabit asks it, for the card of ``books``."""

from types import SimpleNamespace

from card import books


class NVMLError(Exception):
    """As NVML's."""


class NVMLError_NotSupported(NVMLError):
    """As NVML's."""


def nvmlInit() -> None:
    """There is always one."""


def nvmlDeviceGetHandleByIndex(index: int) -> int:
    """The card 0."""
    if index:
        raise NVMLError("there is one card only")
    return index


def nvmlDeviceGetName(_: int) -> str:
    """No card's."""
    return "stand-in"


def nvmlSystemGetDriverVersion() -> str:
    """No driver's."""
    return "none"


def nvmlDeviceGetMemoryInfo(_: int) -> SimpleNamespace:
    """Total, used and free bytes."""
    total, used = books.total(books.folder()), books.used(books.folder())
    return SimpleNamespace(total=total, used=used, free=total - used)


def nvmlDeviceGetComputeRunningProcesses(_: int) -> list[SimpleNamespace]:
    """Who has a context."""
    held = books.held(books.folder())
    return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in held.items()]
