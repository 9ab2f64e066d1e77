"""Asleep, trimmed, woken: room that is made without losing everything, and believed when it is measured."""

import pytest

from cohabit.core.commands import StopCause
from cohabit.core.events import (
    RequestCancelled,
    RequestFailed,
    ShutdownRequested,
    Slept,
    Trimmed,
    WorkerExited,
    WorkerReady,
)
from cohabit.core.model_state import Model, Reclaim
from core.driver import MIB, Core, brief, model


def sleepy(*, load_seconds: float = 5.0, wake_seconds: float = 0.1, keep_alive: float | None = None) -> Model:
    """a: 100 + 10, asleep 20."""
    return model("a", sleep_resident=20, load_seconds=load_seconds, wake_seconds=wake_seconds, keep_alive=keep_alive)


def pair(budget: int = 180, **more: float) -> Core:
    """a, which sleeps, beside b."""
    return Core(sleepy(**more), model("b", load_seconds=1), budget=budget)


def test_sleep_is_preferred_where_it_costs_less_and_frees_enough() -> None:
    core = pair()
    core.bring("a", at=0)
    core.ask("b", at=10)
    assert brief(core.did) == ["sleep a#1: evicted"]
    assert core.slept("a", at=10.1) == [], "it says so; that it is true shows the next reading"
    assert core.measured(at=10.1) == [], "not one that was begun before"
    assert core["a"].state == "sleeping"
    assert brief(core.measured(at=10.2)) == ["start b#2"]
    assert core.state.ledger.accounts[1].held == 20 * MIB


def test_request_for_a_sleeping_model_wakes_it() -> None:
    core = pair()
    core.bring("a", at=0)
    core.done("b", _swap_to_b(core), at=12)
    core.measured(at=12.1)
    waking = core.ask("a", at=20)
    assert brief(core.did) == ["stop b#2: evicted"]
    assert brief(core.gone("b", at=20.1)) == ["wake a#1"]
    assert core.state.ledger.accounts[1].held == 100 * MIB, "what a load takes is reserved again"
    event = WorkerReady(1, 100 * MIB, 100 * MIB, 0.3)
    assert brief(core.send(event, at=20.4)) == [f"run a#1: {waking}"]
    assert (core["a"].usage.loads, core["a"].usage.wakes) == (1, 1)
    assert core["a"].footprint.wake_seconds.value == 0.3
    assert core["a"].footprint.load_seconds.value == 5.0, "a wake is not a load"


def _swap_to_b(core: Core) -> int:
    request = core.ask("b", at=10)
    core.slept("a", at=10.1)
    core.measured(at=10.2)
    core.ready("b", at=11)
    return request


def test_victim_is_stopped_where_asleep_it_would_hold_too_much() -> None:
    core = pair(budget=125)  # 100 + 10 for b leave 15 for a's 20
    core.bring("a", at=0)
    core.ask("b", at=10)
    assert brief(core.did) == ["stop a#1: evicted"]


def test_victim_is_stopped_where_sleep_and_wake_cost_more() -> None:
    core = pair(load_seconds=0.1, wake_seconds=3.0)
    core.bring("a", at=0)
    core.ask("b", at=10)
    assert brief(core.did) == ["stop a#1: evicted"]


@pytest.mark.parametrize(("load_seconds", "goes"), [(0.2, "stop a#1: evicted"), (5.0, "stop c#3: evicted")])
def test_sleeper_is_scored_by_the_load_that_it_spares(load_seconds: float, goes: str) -> None:
    core = Core(sleepy(load_seconds=load_seconds), model("b", load_seconds=9), model("c"), budget=240)
    core.bring("a", at=0)
    core.bring("b", at=1)
    core.ask("c", at=20)
    assert brief(core.did) == ["sleep a#1: evicted"]
    core.slept("a", at=20.1)
    core.measured(at=20.2)
    core.ready("c", at=21)
    core.done("c", 3, at=22)
    core.measured(at=23, total=225)  # now what a keeps asleep is missing for a run
    core.ask("b", at=30)
    assert brief(core.did) == [goes]


def test_a_sleep_that_frees_too_little_ends_in_a_stop_from_then_on() -> None:
    core = pair()
    core.bring("a", at=0)
    core.ask("b", at=10)
    core.slept("a", at=10.1)
    told = core.measured(at=10.2, a=70)  # 90 of 100
    assert brief(told) == ["stop a#1: sleep_failed"]
    assert brief(core.gone("a", at=10.3)) == ["start b#2"]
    core.ready("b", at=11)
    core.done("b", 2, at=12)
    core.measured(at=12.1)
    core.ask("a", at=20)
    core.gone("b", at=20.1)
    core.ready("a", at=21)
    core.done("a", 3, at=22)
    core.measured(at=22.1)
    core.ask("b", at=40)
    assert brief(core.did) == ["stop a#3: evicted"]


def test_sleep_resident_is_learned_from_a_reading() -> None:
    core = pair()
    core.bring("a", at=0)
    core.ask("b", at=10)
    core.slept("a", at=10.1)
    core.measured(at=10.2, a=10)
    sleep_resident = core["a"].footprint.sleep_resident
    assert sleep_resident is not None
    assert sleep_resident.size == 30 * MIB


def test_failed_sleep_or_wake_is_a_failure_and_sleep_is_not_tried_again() -> None:
    core = pair()
    core.bring("a", at=0)
    core.ask("b", at=10)
    assert brief(core.gone("a", at=10.1)) == ["start b#2"]
    assert core["a"].health.sleep_failed
    assert core["a"].health.failures == 1


def test_cancelled_request_does_not_wake_a_model_that_falls_asleep() -> None:
    core = pair()
    core.bring("a", at=0)
    request = core.ask("b", at=10)
    assert core.send(RequestCancelled(request)) == []
    assert core.slept("a", at=10.1) == []
    assert core.measured(at=10.2) == []
    core.ask("a", at=11)
    assert brief(core.did) == ["wake a#1"]


def test_model_asked_while_it_falls_asleep_is_woken_once_asleep() -> None:
    core = pair(keep_alive=5.0, budget=1000)
    core.bring("a", at=0)
    assert brief(core.ring()) == ["sleep a#1: keep_alive"]
    core.ask("a", at=core.now)
    assert core.did == [], "a victim is never resurrected"
    assert brief(core.slept("a")) == ["wake a#1"]


def test_keep_alive_puts_to_sleep_and_then_stops() -> None:
    core = pair(keep_alive=5.0, budget=1000)
    core.bring("a", at=0)
    core.ring()
    assert core.now == 5.0
    core.slept("a", at=5.1)
    assert brief(core.ring()) == ["stop a#1: keep_alive"]
    assert core.now == 10.1


def test_unexpected_slept_and_trimmed_events_are_dropped() -> None:
    core = pair()
    core.bring("a", at=0)
    assert core.send(Slept(1, 5, 0.1)) == [], "nobody told it to"
    assert core.send(Trimmed(1)) == []
    assert core.send(Slept(99, 5, 0.1)) == []
    assert core.send(Trimmed(99)) == []
    assert core["a"].state == "ready"


def test_two_victims_are_stopped_where_both_asleep_hold_too_much() -> None:
    core = Core(
        sleepy(), model("b", sleep_resident=20, load_seconds=5, wake_seconds=0.1), model("c", idle=195), budget=210
    )
    core.bring("a", at=0)
    core.measured(at=1)
    core.bring("b", at=20)
    core.ask("c", at=40)
    assert brief(core.did) == ["stop a#1: evicted", "stop b#2: evicted"]


# trim


def cached() -> Core:
    """Two idle models that each keep 40 MiB; a third, 60 MiB, fits if one of them gives them back."""
    core = Core(model("a", activation=40), model("b", activation=40), model("c", idle=60), budget=340)
    core.bring("a", at=0)
    core.bring("b", at=0.5)
    core.measured(at=1, a=40, b=40)
    return core


def test_idle_workers_are_trimmed_before_any_is_evicted() -> None:
    core = cached()
    core.ask("c", at=1.1)
    assert brief(core.did) == ["trim a#1"], "at once: nobody loses a model by it"
    assert core.trimmed("a", at=1.2) == []
    assert brief(core.measured(at=1.3, b=40)) == ["start c#3"]


def test_trimming_worker_is_not_dispatched() -> None:
    core = cached()
    core.ask("c", at=1.1)
    core.ask("a", at=1.15)
    assert core.did == []
    assert core.trimmed("a", at=1.2) == [], "it would take again what it gave back for c"
    assert brief(core.measured(at=1.3, b=40)) == ["start c#3", "run a#1: 4"]


def test_trim_that_freed_nothing_is_not_repeated_before_the_next_run() -> None:
    core = cached()
    core.ask("c", at=1.1)
    core.trimmed("a", at=1.2)
    assert brief(core.measured(at=1.3, a=40, b=40)) == ["trim b#2"]
    core.trimmed("b", at=1.4)
    assert brief(core.measured(at=1.5, a=40, b=40)) == ["stop a#1: evicted"], "now the next rung of the ladder"


def test_trim_that_would_not_suffice_is_left_out() -> None:
    core = Core(model("a", activation=40), model("b", idle=150), budget=220)
    core.bring("a", at=0)
    core.measured(at=1, a=40)
    core.ask("b", at=30)
    assert brief(core.did) == ["stop a#1: evicted"]


def test_over_the_budget_trims_first_then_stops_sleepers_then_idle_workers() -> None:
    core = Core(sleepy(), model("b"), model("c"), budget=1000)
    for name in "abc":
        core.bring(name)
    core.ask("a", at=5)
    core.done("a", 4, at=6)
    core.measured(at=7, b=30)
    assert brief(core.measured(at=8, b=30, total=310)) == ["trim b#2"]
    core.trimmed("b", at=8.1)
    assert core.measured(at=8.2, total=310) == []
    assert brief(core.measured(at=9, total=250)) == ["stop b#2: over_budget"]


def test_victim_that_dies_instead_of_sleeping_makes_room() -> None:
    core = pair()
    core.bring("a", at=0)
    core.ask("b", at=10)
    swap = core.state.swap
    assert swap is not None
    assert swap.victims == {1: Reclaim.SLEEP}
    assert brief(core.send(WorkerExited(1, 0.0), at=11)) == ["start b#2"]


def test_shutdown_stops_sleepers() -> None:
    core = pair(keep_alive=5.0, budget=1000)
    core.bring("a", at=0)
    core.ring()
    core.slept("a", at=5.1)
    assert brief(core.send(ShutdownRequested(1.0), at=6)) == [f"stop a#1: {StopCause.SHUTDOWN}"]


def test_trimming_worker_is_no_victim() -> None:
    core = Core(model("a"), model("b"), budget=150)
    request = core.ask("a", at=0)
    core.ready("a", at=1)
    failed = RequestFailed(request, 1, sent=True, out_of_memory=True)
    assert brief(core.send(failed, at=2)) == ["trim a#1", f"reject {request}: out_of_memory"]
    core.ask("b", at=40)
    assert core.did == []
    assert brief(core.trimmed("a", at=40.1)) == ["stop a#1: evicted"]


def test_only_an_eviction_is_reported_as_one() -> None:
    core = Core(sleepy(keep_alive=3.0), budget=180)
    core.bring("a", at=0)
    assert brief(core.ring()) == ["sleep a#1: keep_alive"]
    assert core["a"].usage.last_eviction == ""
    evicted = pair()
    evicted.bring("a", at=0)
    evicted.ask("b", at=10)
    assert brief(evicted.did) == ["sleep a#1: evicted"]
    assert evicted["a"].usage.last_eviction.startswith("for b, waiting 0.0 s: ")


def test_no_second_victim_until_the_memory_of_a_sleeping_one_is_seen_free() -> None:
    core = Core(sleepy(), model("c", load_seconds=50.0), model("b", load_seconds=1), budget=290)
    core.bring("c", at=0)
    core.bring("a", at=10)
    core.ask("b", at=100)
    assert brief(core.did) == ["sleep a#2: evicted"], "c costs more to bring back"
    core.ask("b", at=100.05)
    assert core.did == []
    assert core.slept("a", at=100.1) == []
    core.ask("b", at=100.15)
    assert core.did == []
    assert brief(core.measured(at=100.2)) == ["start b#3"]
