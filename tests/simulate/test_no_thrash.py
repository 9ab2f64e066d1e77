"""Two models of which one fits, in virtual time: whatever the load, most of the time serves.

A load takes 1 s, a run 20 ms.
"""

import pytest

from cohabit.simulate.timeline import Doing
from simulate.small_fleet import Run, closed_loop, takes, two

RUN = 0.02
THINK = 0.01
MAX_WAIT = 30.0
SWAP = 1.0 + 0.02 + RUN  # a load, the exit of the one before, and what still ran on it


def swaps(run: Run) -> int:
    """Loads beyond the first."""
    return sum(run.loads.values()) - 1


def served(run: Run) -> int:
    return sum(len(tally.waits) for tally in run.tally.models.values())


def longest_wait(run: Run) -> float:
    return max(wait for tally in run.tally.models.values() for wait in tally.waits)


def test_alternating_requests_at_once_load_each_model_at_most_twice() -> None:
    run = two()
    for number in range(20):
        run.shell.ask("ab"[number % 2], at=0.0, run_seconds=RUN)
    run.shell.run()
    assert served(run) == 20
    assert max(run.loads.values()) <= 2, run.story()


@pytest.mark.parametrize(
    ("requests", "most"),
    [
        (20, 6),
        (100, 6),
        (1000, 41),  # a loaded model serves four times what a swap costs: one swap in 5 s of 200
    ],
)
def test_alternating_requests_every_200_ms_cause_few_swaps_and_short_waits(requests: int, most: int) -> None:
    run = two()
    for number in range(requests):
        run.shell.ask("ab"[number % 2], at=0.2 * number, run_seconds=RUN)
    run.shell.run()
    assert served(run) == requests
    assert swaps(run) <= most, run.story()
    assert longest_wait(run) <= MAX_WAIT + SWAP, run.story()


@pytest.mark.parametrize(
    ("patience", "max_wait"),
    [(4.0, MAX_WAIT), (1000.0, 10.0)],  # with the second only max_wait brings about a swap
)
def test_two_closed_loops_are_served_most_of_the_time(patience: float, max_wait: float) -> None:
    run = two(patience=patience, max_wait=max_wait)
    for model in ("a", "b"):
        closed_loop(run, model, think=THINK, run_seconds=RUN, until=60.0)(0.0)
    run.shell.run()
    run.timeline.close()
    busy = sum(
        sum(span.end - span.begin for span in row.spans[Doing.SERVING])
        + sum(min(THINK, span.end - span.begin) for span in row.spans[Doing.IDLE])
        for row in run.timeline.rows.values()
    )
    assert swaps(run) >= 3
    assert busy / run.timeline.ended >= 0.75, run.story()
    assert longest_wait(run) <= max_wait + SWAP, run.story()


def test_a_lone_request_beside_a_closed_loop_waits_no_longer_than_promised() -> None:
    run = two(patience=1000.0, max_wait=MAX_WAIT)
    closed_loop(run, "a", think=THINK, run_seconds=RUN, until=60.0)(0.0)
    run.shell.ask("b", at=5.0, run_seconds=RUN)
    run.shell.run()
    (waited,) = run.tally.models["b"].waits
    assert MAX_WAIT <= waited <= MAX_WAIT + SWAP, run.story()


def test_waiter_due_during_another_swap_waits_without_a_busy_timer() -> None:
    """The core may not ask to be woken for it at once, again and again, until the other is in."""
    run = Run({"a": takes(), "b": takes(), "c": takes(load_seconds=3.0)}, 150, patience=0.0)
    run.shell.ask("a", at=0.0, run_seconds=20.0)
    run.shell.ask("c", at=1.5, run_seconds=RUN)  # may have a drained from 4.5 s on
    run.shell.ask("b", at=1.6, run_seconds=RUN)  # from 2.6 s on
    run.shell.run()
    assert run.loads == {"a": 1, "b": 1, "c": 1}
