"""How much each key is used, and whether that is more than it may be."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from cohabit.access.keys import Key

MINUTE = 60.0


class TooFast(Exception):
    """More requests than the key has in a minute."""

    def __init__(self, retry_after: float) -> None:
        """``retry_after`` in seconds: then there is room for one."""
        super().__init__(retry_after)
        self.retry_after = retry_after


class TooMany(Exception):
    """More requests at once than the key may have."""


@dataclass(slots=True)
class _Usage:
    running: int = 0
    begun: deque[float] = field(default_factory=deque)  # of the last minute, where that is limited


class Meter:
    """Counts by the name of the key, so that one whose limits are changed keeps its counts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is used yet."""
        self._clock = clock
        self._usage: dict[str, _Usage] = {}

    def enter(self, key: Key) -> None:
        """A request begins; ``leave`` must follow. Raises TooFast, TooMany, and then nothing is counted.

        The minute slides: in no 60 seconds are there more than the key may have.
        """
        usage = self._usage.get(key.name)
        if usage is None:
            usage = self._usage[key.name] = _Usage()
        if key.concurrent is not None and usage.running >= key.concurrent:
            raise TooMany
        if key.requests_per_minute is not None:
            now = self._clock()
            begun = usage.begun
            while begun and begun[0] <= now - MINUTE:
                begun.popleft()
            over = len(begun) - key.requests_per_minute  # more than 0 where the limit has been lowered
            if over >= 0:
                raise TooFast(begun[over] + MINUTE - now)
            begun.append(now)
        usage.running += 1

    def leave(self, key: Key) -> None:
        """A request has been answered to its end."""
        self._usage[key.name].running -= 1
