"""Limits of keys, by a clock that the test drives."""

import pytest

from cohabit.access.keys import Key
from cohabit.access.meter import MINUTE, Meter, TooFast, TooMany


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def key(name: str = "a", *, requests_per_minute: int | None = None, concurrent: int | None = None) -> Key:
    return Key(name=name, digest="", requests_per_minute=requests_per_minute, concurrent=concurrent)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def meter(clock: Clock) -> Meter:
    return Meter(clock)


def use(meter: Meter, key: Key) -> None:
    meter.enter(key)
    meter.leave(key)


def test_in_no_minute_more_than_it_may(meter: Meter, clock: Clock) -> None:
    limited = key(requests_per_minute=3)
    began = []
    for _ in range(300):
        try:
            use(meter, limited)
        except TooFast:
            pass
        else:
            began.append(clock.now)
        clock.now += 1
    assert len(began) == 15
    assert all(later - earlier >= MINUTE for earlier, later in zip(began, began[3:], strict=False))


def test_says_when_there_is_room(meter: Meter, clock: Clock) -> None:
    limited = key(requests_per_minute=2)
    use(meter, limited)
    clock.now += 10
    use(meter, limited)
    with pytest.raises(TooFast) as refused:
        use(meter, limited)
    assert refused.value.retry_after == 50
    clock.now += 50
    use(meter, limited)
    with pytest.raises(TooFast) as refused:
        use(meter, limited)
    assert refused.value.retry_after == 10


def test_a_limit_that_was_lowered(meter: Meter, clock: Clock) -> None:
    for _ in range(3):
        use(meter, key(requests_per_minute=3))
        clock.now += 10
    with pytest.raises(TooFast) as refused:
        use(meter, key(requests_per_minute=1))
    assert refused.value.retry_after == 50
    clock.now += 50
    use(meter, key(requests_per_minute=1))


def test_so_many_at_once(meter: Meter) -> None:
    limited = key(concurrent=2)
    meter.enter(limited)
    meter.enter(limited)
    for _ in range(3):
        with pytest.raises(TooMany):
            meter.enter(limited)
    meter.leave(limited)
    meter.enter(limited)
    with pytest.raises(TooMany):
        meter.enter(limited)


def test_a_limit_that_is_new_counts_what_runs(meter: Meter) -> None:
    meter.enter(key())
    with pytest.raises(TooMany):
        meter.enter(key(concurrent=1))
    meter.leave(key())
    meter.enter(key(concurrent=1))


def test_keys_have_their_own(meter: Meter) -> None:
    meter.enter(key("a", concurrent=1, requests_per_minute=1))
    meter.enter(key("b", concurrent=1, requests_per_minute=1))
    for _ in range(1000):
        use(meter, key("c"))


def test_who_was_refused_used_nothing(meter: Meter, clock: Clock) -> None:
    limited = key(concurrent=1, requests_per_minute=2)
    meter.enter(limited)
    for _ in range(5):
        with pytest.raises(TooMany):
            meter.enter(limited)
    meter.leave(limited)
    use(meter, limited)
    with pytest.raises(TooFast):
        use(meter, limited)
    clock.now += MINUTE
    use(meter, limited)
