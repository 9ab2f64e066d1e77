"""Branch 3.4: a model that can be loaded sooner does not delay one that has waited longer."""

from typing import Any

import pytest

from cohabit.core.events import LoadRequested, SleepRequested
from cohabit.core.explain import expected_wait, waits_for
from cohabit.core.preemption import Preemption, Reservation
from core.driver import MIB, Core, brief, model

BUDGET = 270


def small(name: str, **more: Any) -> Any:
    """Of which two fit. One that loads in a tenth of a second may take another's room soon."""
    return model(name, **{"load_seconds": 0.1, **more})


def crowd(*others: Any, big: int, budget: int = BUDGET, **more: Any) -> Core:
    """At 3 s a and b, in since 1 and 2 s, always have work, and ``big`` begins to wait for a second's load."""
    core = Core(model("a", **more), model("b", **more), model("big", idle=big, **more), *others, budget=budget)
    fill(core)
    core.ask("big", at=3)
    assert core.did == []
    return core


def fill(core: Core, *, at: float = 0) -> None:
    """With a and b, both at work; it takes 2 s."""
    core.ask("a", at=at)
    core.ready("a", at=at + 1)
    core.ask("b", at=at + 1)
    core.ready("b", at=at + 2)


def test_smaller_waiter_does_not_delay_the_reservation_of_a_larger_one() -> None:
    core = crowd(small("c"), big=220)
    core.ask("c", at=3.5)
    assert core.timer == 3.6, "when c has waited as long as its swap costs, and a has served four times that"
    while not core.draining:
        assert core.ring() == []
    assert core.now == 6.0, "when b, too, has served four times what big's swap costs"
    assert core.draining == ["a", "b"]
    core.done("a", 1, at=6.1)
    core.done("b", 2, at=6.2)
    core.gone("a", at=6.3)
    assert brief(core.gone("b", at=6.4)) == ["start big#3"]


def test_waiter_that_fits_beside_the_reservation_is_loaded_at_once() -> None:
    core = crowd(small("c", idle=20), big=140)
    core.ask("c", at=3.5)
    assert brief(core.did) == ["start c#3"], "20 beside 200 now, and beside b and big later"


def test_free_room_is_kept_for_the_reservation() -> None:
    core = crowd(small("c", idle=30), big=140)
    core.ask("c", at=3.5)
    assert core.did == [], "there would be room now, but not beside b and big, of which one runs"
    core.ring()
    assert (core.now, core.draining) == (5.0, ["a"])


def test_waiter_that_is_evictable_by_the_shadow_time_is_loaded_first() -> None:
    core = crowd(small("c", patience=100.0), big=220, patience=100.0)
    core.ask("c", at=3.5)
    core.ring()
    assert core.now == 1 + 100 * 0.1, "a has served c's hundred swaps, and big waits until 33 s whatever happens"
    assert core.draining == ["a"]
    core.done("a", 1, at=11.1)
    core.gone("a", at=11.2)
    core.ready("c", at=11.3)
    while "c" not in core.draining:
        core.ring()
    assert (core.now, core.draining) == (33.0, ["b", "c"])


def test_starting_model_counts_its_serving_time_from_its_load() -> None:
    core = Core(model("a"), model("x"), model("big", idle=220), small("c"), budget=BUDGET)
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("x", at=2)
    core.ask("big", at=2.2)
    core.ask("c", at=2.3)
    core.ring()
    assert (core.now, core.draining) == (2.4, ["a"]), "x will have served until 7 s, and c too"


def test_background_work_has_no_reservation() -> None:
    core = Core(model("a"), model("b"), model("big", idle=140), small("c", idle=30), budget=BUDGET)
    fill(core)
    core.ask("big", at=3, background=True)
    core.ask("c", at=3.5, background=True)
    assert brief(core.did) == ["start c#3"], "it takes what is free, and nobody makes room for big"


def test_model_with_background_work_is_evictable_for_the_reservation_at_once() -> None:
    core = Core(model("a"), model("x"), model("big", idle=220), small("c"), budget=BUDGET)
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("x", at=1, background=True)
    core.ready("x", at=2)
    core.ask("big", at=3)
    assert expected_wait(core.state, core["big"], 1, core.now) == pytest.approx(2.0 + 1.0), "until 5 s, for a alone"


def test_pinned_backfill_must_fit_beside_the_reservation() -> None:
    core = crowd(small("c", idle=30, pin=True), big=140, patience=100.0)
    core.ask("c", at=3.5)
    assert core.did == []
    core.ring()
    assert (core.now, core.draining) == (33.0, ["a"])


def test_preload_takes_no_reserved_room() -> None:
    core = crowd(small("c", idle=30), small("d", idle=20), big=140)
    core.state.load_wanted(core["c"], None)
    core.state.load_wanted(core["d"], None)
    assert brief(core.measured(at=3.5)) == ["start d#3"]


@pytest.mark.parametrize(("load_seconds", "did"), [(1.0, ["start c#3"]), (5.0, [])])
def test_no_load_delays_a_reservation_with_a_margin(load_seconds: float, did: list[str]) -> None:
    core = crowd(model("c", idle=20, load_seconds=load_seconds), big=80)
    core["big"].footprint.widen(BUDGET * MIB)
    core.ask("c", at=3.5)
    assert brief(core.did) == did, "big, which ran out of memory before, may load at 5 s"


@pytest.mark.parametrize(("load_seconds", "did"), [(1.0, ["start c#3"]), (2.0, [])])
def test_load_that_takes_more_than_idle_must_end_before_the_shadow_time(load_seconds: float, did: list[str]) -> None:
    core = crowd(model("c", idle=20, load=60, load_seconds=load_seconds), big=150, budget=300)
    core.ask("c", at=3.5)
    assert brief(core.did) == did, "20 beside b and big, but not 60"


@pytest.mark.parametrize(("idle", "did"), [(20, ["wake c#1"]), (30, [])])
def test_sleeping_backfill_counts_what_it_holds_already(idle: int, did: list[str]) -> None:
    c = small("c", idle=idle, sleep_resident=15, wake_seconds=0.1)
    core = Core(model("a"), model("b"), model("big", idle=140), c, budget=BUDGET)
    core.bring("c", at=0)
    core.send(SleepRequested("c"), at=1)
    core.slept("c", at=2)
    core.measured(at=3)
    fill(core, at=4)
    core.ask("big", at=7)
    core.ask("c", at=7.5)
    assert brief(core.did) == did, "beside b and big there are 20 for it"


def test_backfill_in_place_of_a_model_that_would_stay_takes_no_reserved_room() -> None:
    core = Core(model("a"), model("b"), small("v"), model("big", idle=140), small("c"), budget=360)
    fill(core)
    core.ask("v", at=2.2)
    core.ready("v", at=2.5)
    core.ask("big", at=3)
    core.ask("c", at=3.5)
    core.ring()
    assert (core.now, core.draining) == (3.6, ["v"]), "a leaves for big at 5 s, be it beside v or c"


def test_ready_model_that_wants_to_run_is_not_held_back_by_a_reservation() -> None:
    core = Core(model("a"), model("b"), model("big", idle=140), model("c", idle=30, activation=5), budget=BUDGET)
    core.bring("c", at=0)
    fill(core, at=4)
    core.ask("big", at=7)
    reservation = Reservation.of(Preemption.of(core.state, core["big"], core.now))
    assert reservation is not None
    assert reservation.allows_backfill(core["c"], {}, core.now)


def test_prewarmed_process_is_evictable_at_any_time() -> None:
    core = Core(model("a"), model("c", idle=200, prewarmed=100), model("big", idle=160, load_seconds=3), budget=270)
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("c", at=2)
    assert brief(core.did) == ["prewarm c#2"]
    core.ask("big", at=2.5)
    reservation = Reservation.of(Preemption.of(core.state, core["big"], core.now))
    assert reservation is not None
    assert reservation.gone == {2}, "160 and 110"
    assert reservation.shadow_time == 5.5, "no sooner than is worth a load that takes 3 s"


@pytest.mark.parametrize(("idle", "gone"), [(20, {1}), (21, {1, 2})])
def test_pinned_model_is_never_evictable_for_a_reservation(idle: int, gone: set[int]) -> None:
    core = Core(model("a"), model("b"), model("p", idle=idle, pin=True), model("big", idle=140), budget=270)
    fill(core)
    core.bring("p", at=2.5)
    core.ask("big", at=3)
    reservation = Reservation.of(Preemption.of(core.state, core["big"], core.now))
    assert reservation is not None
    assert reservation.gone == gone, "150 with a run, and b's 100 if p has no more than 20"
    assert reservation.occupancy.idle == (idle + 100 * (2 not in gone)) * MIB


def test_sleeper_without_waiters_is_evictable_at_any_time() -> None:
    core = Core(model("a"), model("s", sleep_resident=15), model("big", idle=250), budget=BUDGET)
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.bring("s", at=5)
    core.send(SleepRequested("s"), at=6)
    core.slept("s", at=6.1)
    core.measured(at=6.2, a=10)
    core.ask("big", at=7)
    assert expected_wait(core.state, core["big"], 1, core.now) == pytest.approx(1.0 + 1.0), "a has served, at 5 s"


def test_runs_that_block_the_reservation_are_held_up_after_the_cost_of_a_swap() -> None:
    core = Core(model("a"), model("big"), budget=215)
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("big", at=3)
    assert expected_wait(core.state, core["big"], 1, core.now) == pytest.approx(1.0 + 1.0), "its own load, twice"


def test_requested_load_has_a_reservation_like_a_request() -> None:
    core = crowd(small("c", idle=30), big=140)
    core.send(LoadRequested("c"), at=3.5)
    assert core.did == []
    assert core["c"].backfill_blocked_by is core["big"]


def test_model_with_a_smaller_max_wait_becomes_more_urgent() -> None:
    core = crowd(small("c", idle=30, pin=True, max_wait=3.0), big=140)
    core.ask("c", at=3.5)
    assert core.did == []
    assert brief(core.ring()) == ["start c#3"]
    assert core.now == pytest.approx(3.5 + 0.5 / 9, abs=0.002), "when 3 s and 30 s are used up to the same part"


def test_waiter_behind_a_reservation_says_for_whom_and_how_long() -> None:
    core = crowd(small("c"), big=220)
    core.ask("c", at=3.5)
    core.ring()
    told = waits_for(core.state, core["c"], core.now)
    assert told == "big to be loaded first: it has waited longer, and would have to wait longer still"
    assert expected_wait(core.state, core["c"], 1, core.now) == pytest.approx(2.4 + 1.0 + 0.1), (
        "room, big's load, its own"
    )
    told = waits_for(core.state, core["big"], core.now)
    assert told == "others to have served their time; room is made in 2.4 s at the latest", "b at 6 s"
