"""One at a time, among threads and processes alike."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cohabit.sources.progress import Cancelled, Progress, Step, check

_POLL = 0.2  # seconds


@contextmanager
def locked(path: Path, progress: Progress, cancelled: Cancelled) -> Iterator[None]:
    """Hold the lock file ``path``. Raises FetchCancelled, OSError."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)  # a new one each time: threads exclude each other as processes do
    while True:
        try:
            lock.acquire(timeout=_POLL)
        except Timeout:
            progress(Step.WAITING, 0, None)
            check(cancelled)
        else:
            break
    try:
        yield
    finally:
        lock.release()
