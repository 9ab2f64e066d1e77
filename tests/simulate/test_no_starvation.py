"""Whatever the mix of models and however busy all of them are, nobody is forgotten. In virtual time."""

import random

import pytest

from simulate.small_fleet import MIB, Run, closed_loop, takes

MAX_WAIT = 30.0
UNTIL = 300.0


@pytest.mark.parametrize("load_seconds", [2.0, 10.0, 40.0])
def test_large_model_is_served_beside_small_ones_that_take_turns(load_seconds: float) -> None:
    """Each that comes in must serve for a while before it may be asked to leave: all three never have at once."""
    small = {name: takes(load_seconds=0.5) for name in "abc"}
    run = Run({"large": takes(idle=220, load_seconds=load_seconds), **small}, 250, max_wait=MAX_WAIT)
    for name in small:
        for _ in range(2):
            closed_loop(run, name, think=0.01, run_seconds=0.2, until=UNTIL)(0.0)
    run.shell.ask("large", at=5.0, run_seconds=1.0)
    run.shell.run()
    (waited,) = run.tally.models["large"].waits
    assert waited <= MAX_WAIT + load_seconds + 0.5, run.story()
    for name in small:
        assert max(run.tally.models[name].waits) <= load_seconds + 15.0, (
            "and they do not pay for it with more than its load"
        )
        assert run.loads[name] >= 0.8 * UNTIL / 4, "and they go on taking turns"


def test_loaded_model_gets_to_run() -> None:
    """Room for one run at a time, and one that could always use again what it has just used."""
    run = Run({name: takes(load_seconds=1.0) for name in "abc"}, 215, max_wait=MAX_WAIT)
    for name in "abc":
        for _ in range(2):
            closed_loop(run, name, think=0.01, run_seconds=1.0, until=UNTIL)(0.0)
    run.shell.run()
    served = [len(tally.waits) for tally in run.tally.models.values()]
    assert min(served) >= 0.75 * max(served), f"{served}{run.story()}"


@pytest.mark.parametrize("seed", [5, 13, 14, 16, 58, 59])
def test_no_model_of_an_overloaded_fleet_waits_longer_than_promised(seed: int) -> None:
    """Where without reservations a model was forgotten for good, and where the longest wait is now."""
    draw = random.Random(seed)
    names = [f"m{number}" for number in range(draw.randint(3, 7))]
    fleet = {
        name: takes(
            idle=draw.choice([30, 60, 100, 200]),
            activation=draw.choice([10, 30]),
            load_seconds=draw.choice([0.3, 1.0, 3.0, 10.0]),
        )
        for name in names
    }
    seconds = {name: draw.choice([0.05, 0.5, 2.0]) for name in names}
    peaks = [(one.idle + one.activation) // MIB for one in fleet.values()]
    budget = max(max(peaks) + 20, int(sum(peaks) * draw.choice([0.3, 0.5, 0.7])))
    max_wait = draw.choice([10.0, 30.0])
    run = Run(fleet, budget, max_wait=max_wait, slots=draw.choice([1, 2, 4]))
    for name in names:
        think = draw.choice([0.01, 0.5, 5.0])
        closed_loop(run, name, think=think, run_seconds=seconds[name], until=UNTIL)(0.0)
    run.shell.run()
    # max_wait, then at most everybody once: its load, as long again to serve, and a run that is under way
    promised = max_wait + sum(2 * one.load_seconds + seconds[name] for name, one in fleet.items())
    for name, tally in run.tally.models.items():
        assert max(tally.waits) <= promised, f"{name}{run.story()}"
