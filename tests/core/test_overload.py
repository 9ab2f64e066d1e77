"""More work than the device can do: both progress, and most of the time serves."""

from itertools import pairwise

import pytest

from cohabit.core.lifecycle import State
from core.driver import Core, model


def serve(core: Core, seconds: float, *, run: float) -> tuple[dict[str, int], dict[str, list[float]]]:
    """Keep every queue full; the shell answers at once. Answers by model, and when each was loaded."""
    answered = dict.fromkeys(core.state.models, 0)
    loads: dict[str, list[float]] = {name: [] for name in answered}
    for name in [*answered, *answered]:
        core.ask(name)
    while core.now < seconds:
        busy = next((m for m in core.state.models.values() if m.busy), None)
        moving = {m.state: m for m in core.state.models.values()}
        if busy is not None:
            core.ask(busy.name)
            core.done(busy.name, next(iter(busy.run.requests)), at=core.now + run)
            core.measured()
            answered[busy.name] += 1
        elif stopping := moving.get(State.STOPPING):
            core.gone(stopping.name, at=core.now + 0.01)
        elif starting := moving.get(State.STARTING):
            core.ready(starting.name, at=core.now + starting.footprint.load_seconds.value)
            loads[starting.name].append(core.now)
        else:
            core.ring()
    assert core.rejected == {}
    return answered, loads


def gaps(loads: dict[str, list[float]]) -> list[float]:
    """Seconds between one load and the next, whoever's."""
    ordered = sorted(loads["a"] + loads["b"])
    return [later - earlier for earlier, later in pairwise(ordered)]


def pair(**settings: float) -> Core:
    """Two models of which only one fits."""
    made = [model(name, **settings) for name in "ab"]  # type: ignore[arg-type]  # only the seconds are set
    return Core(*made, budget=150, slots=1)


def test_two_overloaded_models_switch_no_more_often_than_patience_allows() -> None:
    answered, loads = serve(pair(load_seconds=1.0), 300, run=0.1)
    assert min(gaps(loads)) >= 4 * 1.0 + 1.0, "four times the cost serving, then the swap"
    assert max(gaps(loads)) <= 5.3, "and no longer than that: a run ends, the victim exits"
    assert answered["a"] == pytest.approx(answered["b"], rel=0.05)
    assert sum(answered.values()) * 0.1 >= 0.78 * 300, "four fifths of the time serve"


def test_loads_longer_than_max_wait_leave_half_of_the_time() -> None:
    answered, loads = serve(pair(load_seconds=31.0, max_wait=30.0), 3000, run=0.5)
    assert min(gaps(loads)) >= 2 * 31.0
    assert sum(answered.values()) * 0.5 >= 0.48 * 3000, "without a minimum each load would serve one request"


def test_max_wait_decides_where_patience_would_take_longer() -> None:
    answered, loads = serve(pair(load_seconds=5.0, max_wait=8.0), 300, run=0.1)
    assert min(gaps(loads)) >= 5.0 + 5.0, "no less than the cost of the swap once: half of the time serves"
    assert max(gaps(loads)) <= 10.3
    assert answered["a"] == pytest.approx(answered["b"], rel=0.1)
