"""Background work beside interactive work, in virtual time."""

from cohabit.simulate.report import quantiles
from simulate.small_fleet import Run, closed_loop, takes, two

RUN = 0.02


def test_interactive_work_waits_for_one_background_run_at_most_where_both_fit() -> None:
    run = Run({"a": takes(), "b": takes()}, budget=300, slots=1)
    for number in range(100):
        run.shell.ask("a", at=5.0 + 0.5 * number, run_seconds=0.1)
    for _ in range(500):
        run.shell.ask("b", at=0.0, run_seconds=RUN, background=True)
    ended = run.shell.run()
    waits = quantiles(run.tally.models["a"].waits[5:])  # those before waited for its load
    assert waits is not None
    assert waits["max"] <= RUN + 1e-6
    assert len(run.tally.models["b"].background_waits) == 500
    assert ended < 5.0 + 0.5 * 100 + 1.0, "10 s of work beside 10 s in 50"


def test_background_work_gets_a_twentieth_under_endless_interactive_load() -> None:
    run = Run({"a": takes(), "b": takes()}, budget=300, slots=1)
    for client in range(3):
        closed_loop(run, "a", think=0.0, run_seconds=RUN, until=30.0)(0.001 * client)
    for _ in range(200):
        run.shell.ask("b", at=2.0, run_seconds=RUN, background=True)
    run.shell.run(until=30.0)
    served = len(run.tally.models["b"].background_waits)
    share = served * RUN / 28.0
    assert 0.03 <= share <= 0.06, (served, share)


def test_background_model_is_loaded_once_a_swap_is_a_twentieth_of_its_wait() -> None:
    run = two()
    closed_loop(run, "a", think=0.1, run_seconds=0.1, until=100.0)(0.0)
    for _ in range(200):
        run.shell.ask("b", at=1.0, run_seconds=0.1, background=True)
    run.shell.run(until=100.0)
    served = len(run.tally.models["b"].background_waits)
    assert served > 30, run.story()
    longest = max(run.tally.models["a"].waits)
    assert longest < 5.0, "its loads, b's exit, and what b was let serve"
    assert 2 <= run.loads["b"] <= 100 / 20 + 1
