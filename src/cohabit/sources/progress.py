"""How a fetch tells how far it is, and how it is told to stop."""

from collections.abc import Callable
from enum import StrEnum

from cohabit.sources.errors import FetchCancelled


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
