"""How much a key may ask: so many requests in any minute, so many at once."""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass

from cohabit.access.keys import Key

MINUTE = 60.0


@dataclass(frozen=True, slots=True)
class Exceeded:
    """Not now."""

    code: str
    message: str
    retry_after: float  # seconds


class RateLimits:
    """Counts what keys have asked. A request that is refused does not count."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """``clock`` in seconds."""
        self._clock = clock
        self._recent: defaultdict[str, deque[float]] = defaultdict(deque)
        self._running: defaultdict[str, int] = defaultdict(int)

    def enter(self, key: Key, *, line: bool = False) -> Exceeded | None:
        """Count a request, which ``leave`` ends; or say why it may not be.

        A ``line`` of a batch takes no more than half of what a key may, so that its batches leave it the other half.
        """
        if key.concurrent is not None and self._running[key.name] >= _part(key.concurrent, line):
            message = f"this key may have {key.concurrent} requests at once; wait until one has ended"
            return Exceeded("too_many_concurrent", message, 1.0)
        over = self.count(key, line=line)
        if over is None:
            self._running[key.name] += 1
        return over

    def leave(self, key: Key) -> None:
        """It has been answered, to its end."""
        self._running[key.name] -= 1
        if not self._running[key.name]:
            del self._running[key.name]

    def count(self, key: Key, *, line: bool = False) -> Exceeded | None:
        """Count a further request of what came together, in this minute only; or say why it may not be."""
        if key.requests_per_minute is None:
            return None
        most = _part(key.requests_per_minute, line)
        recent, now = self._recent[key.name], self._clock()
        while recent and recent[0] <= now - MINUTE:
            recent.popleft()
        if len(recent) >= most:
            message = f"this key may send {key.requests_per_minute} requests a minute; try again later"
            # The one whose leaving makes room: with a limit that was lowered that is not the first one.
            return Exceeded("rate_limit_exceeded", message, recent[len(recent) - most] + MINUTE - now)
        recent.append(now)
        return None

    def place(self, key: Key) -> bool:
        """Take a further place among those at once, which ``leave`` gives back; false if none is free."""
        if key.concurrent is not None and self._running[key.name] >= key.concurrent:
            return False
        self._running[key.name] += 1
        return True


def _part(limit: int, line: bool) -> int:
    return max(1, limit // 2) if line else limit
