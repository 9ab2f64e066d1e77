"""What time it is for certain, while somebody sets the clock."""

import math

from structlog.testing import capture_logs

from cohabit.batches.calendar import SETTLED, Calendar

NOW = 1_800_000_000.0
DAY = 86400.0


class Clocks:
    """A clock that can be set, and one that cannot."""

    def __init__(self) -> None:
        self.wall = NOW
        self.passed = 5.0
        self.calendar = Calendar(lambda: self.wall, lambda: self.passed)

    def later(self, seconds: float) -> float:
        """Time passes; what is certain then."""
        self.wall += seconds
        self.passed += seconds
        return self.calendar.surely()


def test_time_is_unknown_until_the_clock_has_settled() -> None:
    clocks = Clocks()
    assert clocks.later(SETTLED - 1) == -math.inf
    assert clocks.later(1) == NOW + SETTLED
    assert clocks.later(7) == NOW + SETTLED + 7


def test_jump_ahead_counts_after_it_has_lasted() -> None:
    clocks = Clocks()
    clocks.later(SETTLED)
    clocks.wall += 40 * DAY
    assert clocks.later(0) == NOW + SETTLED
    assert clocks.later(SETTLED / 2) == NOW + 1.5 * SETTLED
    assert clocks.later(SETTLED / 2) == NOW + 2 * SETTLED
    assert clocks.later(1) == NOW + 40 * DAY + 2 * SETTLED + 1


def test_jump_back_counts_at_once() -> None:
    clocks = Clocks()
    clocks.later(SETTLED)
    clocks.wall -= DAY
    assert clocks.later(0) == NOW + SETTLED - DAY
    clocks.wall += DAY
    assert clocks.later(10) == NOW + SETTLED - DAY + 10, "not so the way ahead again"


def test_time_is_unknown_after_a_gap_in_observation() -> None:
    clocks = Clocks()
    clocks.later(SETTLED)
    assert clocks.later(SETTLED + 1) == -math.inf
    assert clocks.later(SETTLED) == NOW + 3 * SETTLED + 1


def test_objects_made_since_the_start_expire_on_time() -> None:
    clocks = Clocks()
    assert clocks.calendar.left(NOW + 60, made=int(NOW)) == 60
    assert clocks.calendar.left(NOW + 60, made=NOW - 100) == math.inf
    clocks.wall += DAY
    assert clocks.calendar.left(NOW + 60, made=int(NOW)) == 60
    clocks.wall -= DAY
    clocks.later(SETTLED)
    assert clocks.calendar.left(NOW + 60, made=NOW - 100) == 60 - SETTLED


def test_clock_change_is_logged() -> None:
    clocks = Clocks()
    with capture_logs() as logged:
        clocks.later(10)
        clocks.wall += 30  # as a time server may
        clocks.later(10)
        clocks.wall += DAY
        clocks.later(10)
        clocks.later(10)
    assert [line["by_seconds"] for line in logged] == [DAY]
