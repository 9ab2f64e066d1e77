"""What time it is, and what of that can be relied on before anything is erased for good.

The machine's clock may be wrong: after a start without a battery, by a bad time server, by hand. So whether something
has expired is judged by the earliest time that it has been within SETTLED seconds, which pass by a clock that nobody
sets. A clock that runs ahead for less than that erases nothing, and expired things stay for that much longer.
"""

import math
import time
from collections import deque
from collections.abc import Callable

import structlog

log = structlog.get_logger()

SETTLED = 900.0  # seconds; time servers have corrected a clock by then
_JUMP = 60.0  # seconds by which a clock may be corrected without a word


class Calendar:
    def __init__(
        self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """``wall`` gives Unix seconds, ``monotonic`` seconds since some moment."""
        self.now = wall
        self.monotonic = monotonic
        self._first = wall()
        self._began = self._last = monotonic()
        # How far the two are apart, by when that was seen; kept is what may be the least of the last SETTLED seconds.
        self._apart: deque[tuple[float, float]] = deque([(self._began, self._first - self._began)])

    def surely(self) -> float:
        """Unix time that has certainly come; -inf as long as the clock has not been looked at for long enough.

        To be called every few seconds, so that no jump is missed.
        """
        earliest = self._earliest()
        return earliest if self._last - self._began >= SETTLED else -math.inf

    def left(self, moment: float, made: float) -> float:
        """Seconds until a moment, of something that was stamped ``made``. inf where that cannot be told yet."""
        earliest, surely = self._earliest(), self.surely()
        # What was made since this server began was stamped by the same clock.
        return moment - (earliest if made >= int(self._first) else surely)

    def _earliest(self) -> float:
        now = self.monotonic()
        apart = self.now() - now
        if now - self._last > SETTLED:  # nobody looked: what the clock did meanwhile is not known
            self._began = now
            self._apart.clear()
        elif abs(apart - self._apart[-1][1]) > _JUMP:
            log.warning("the clock was set", by_seconds=round(apart - self._apart[-1][1]))
        self._last = now
        while self._apart and self._apart[-1][1] >= apart:
            self._apart.pop()
        self._apart.append((now, apart))
        while now - self._apart[0][0] > SETTLED:
            self._apart.popleft()
        return now + self._apart[0][1]
