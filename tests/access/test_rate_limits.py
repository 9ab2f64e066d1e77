"""So many in any minute, so many at once."""

import pytest

from cohabit.access.keys import Key
from cohabit.access.rate_limits import MINUTE, RateLimits


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limits(clock: Clock) -> RateLimits:
    return RateLimits(clock)


def test_without_limits(limits: RateLimits) -> None:
    key = Key(name="a", digest="", created=1)
    assert [limits.enter(key) for _ in range(1000)] == [None] * 1000


def test_so_many_in_any_minute(limits: RateLimits, clock: Clock) -> None:
    key = Key(name="a", digest="", created=1, requests_per_minute=3)
    for at in (0, 10, 20):
        clock.now = 1000.0 + at
        assert limits.enter(key) is None
    over = limits.enter(key)
    assert over is not None
    assert (over.code, over.retry_after) == ("rate_limit_exceeded", 40.0)
    clock.now = 1000.0 + MINUTE
    assert limits.enter(key) is None, "the first has gone, and what was refused never counted"
    assert limits.enter(key) is not None
    assert limits.enter(Key(name="b", digest="", created=1, requests_per_minute=1)) is None, "another key"


def test_a_limit_that_was_lowered_says_when_there_is_room(limits: RateLimits, clock: Clock) -> None:
    for at in (0, 10, 20, 30):
        clock.now = 1000.0 + at
        limits.enter(Key(name="a", digest="", created=1, requests_per_minute=10))
    over = limits.enter(Key(name="a", digest="", created=1, requests_per_minute=2))
    assert over is not None
    clock.now += over.retry_after
    assert limits.enter(Key(name="a", digest="", created=1, requests_per_minute=2)) is None


def test_so_many_at_once(limits: RateLimits) -> None:
    key = Key(name="a", digest="", created=1, concurrent=2)
    assert limits.enter(key) is limits.enter(key) is None
    over = limits.enter(key)
    assert over is not None
    assert over.code == "too_many_concurrent"
    limits.leave(key)
    assert limits.enter(key) is None


def test_what_comes_together_counts_each(limits: RateLimits) -> None:
    key = Key(name="a", digest="", created=1, requests_per_minute=3, concurrent=1)
    assert limits.enter(key) is None
    assert [limits.count(key) is None for _ in range(3)] == [True, True, False]


def test_further_places_are_taken_as_far_as_there_are_any(limits: RateLimits) -> None:
    key = Key(name="a", digest="", created=1, concurrent=2)
    assert limits.enter(key) is None
    assert limits.place(key)
    assert not limits.place(key)
    limits.leave(key)
    assert limits.place(key)


def test_lines_of_batches_leave_half_of_a_limit_to_everything_else(limits: RateLimits) -> None:
    key = Key(name="a", digest="", created=1, requests_per_minute=4)
    assert [limits.enter(key, line=True) is None for _ in range(3)] == [True, True, False]
    assert [limits.enter(key) is None for _ in range(3)] == [True, True, False]
    key = Key(name="b", digest="", created=1, concurrent=2)
    assert [limits.enter(key, line=True) is None for _ in range(2)] == [True, False]
    assert limits.enter(key) is None
    least = Key(name="c", digest="", created=1, requests_per_minute=1, concurrent=1)
    assert limits.enter(least, line=True) is None, "but they have one at least"
