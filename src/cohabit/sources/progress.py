"""What fetching and converting have in common: their errors, how far they are, how they stop, how they take turns.

SourceError
└── FetchCancelled
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

_POLL = 0.2  # seconds


class SourceError(Exception):
    """A source cannot be used. The text is one line: what is wrong and what would do."""


class FetchCancelled(SourceError):
    """Whoever asked for it no longer wants it; nothing of it was kept."""


class Step(StrEnum):
    """What a fetch is doing."""

    WAITING = "waiting"  # another process or thread is fetching from the same wheel
    DOWNLOADING = "downloading"
    UNPACKING = "unpacking"
    VERIFYING = "verifying"
    CONVERTING = "converting"


Progress = Callable[[Step, int, int | None], None]
"""Called with the step, the bytes done and the bytes in all (None where nobody knows), in the fetching thread."""

Cancelled = Callable[[], bool]
"""Asked several times a second: is the result no longer wanted?"""


def ignore(step: Step, done: int, total: int | None) -> None:
    """For a caller that does not watch."""


def never() -> bool:
    """For a caller that does not cancel."""
    return False


def check(cancelled: Cancelled) -> None:
    """Raises FetchCancelled if it was."""
    if cancelled():
        raise FetchCancelled("the fetch was cancelled; nothing of it was kept")


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
