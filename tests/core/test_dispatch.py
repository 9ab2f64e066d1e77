"""Branch 2: which model is given work, by device-seconds, slots, turns and batches."""

from typing import Any

import pytest

from cohabit.core.commands import Dispatch
from cohabit.core.dispatch import Blocked, blocked_by
from cohabit.core.explain import waits_for
from core.driver import Core, brief, model


def test_a_model_takes_its_slots_while_anything_is_in_flight() -> None:
    core = Core(model("a", slots=1, concurrency=2), model("b", slots=2), budget=500, slots=2)
    core.ask("b", at=0)
    core.ready("b")
    core.ask("a")
    core.ready("a", at=1)
    core.ask("a")
    assert core.did == []
    assert brief(core.done("b", 1, at=2)) == ["run a#2: 2", "run a#2: 3"]
    assert core.state.ledger.slots_used == 1, "one holding for all requests of a model"
    core.done("a", 2, at=3)
    assert core.state.ledger.slots_used == 1
    core.done("a", 3, at=3)
    assert core.state.ledger.slots_used == 0


def test_batch_takes_all_that_waits_when_the_worker_is_free() -> None:
    core = Core(model("a", max_batch=3))
    for _ in range(5):
        core.ask("a")
    assert brief(core.ready("a")) == ["run a#1: 1 2 3"]
    assert core.done("a", 1) == []
    assert core.done("a", 2) == [], "the whole batch ends before the next"
    assert brief(core.done("a", 3)) == ["run a#1: 4 5"]


@pytest.mark.parametrize(("priority", "share"), [(1.0, 0.5), (3.0, 0.75)])
def test_device_time_is_shared_by_priority(priority: float, share: float) -> None:
    """One slot, a 350 ms model beside a 20 ms one, both always wanted."""
    core = Core(model("slow", priority=priority), model("fast"), budget=500, slots=1)
    seconds = {"slow": 0.35, "fast": 0.02}
    used = dict.fromkeys(seconds, 0.0)
    for name in seconds:
        core.ask(name)
        core.ask(name)
    pending = [*core.ready("slow"), *core.ready("fast")]
    while sum(used.values()) < 60:
        (command,) = pending
        assert isinstance(command, Dispatch)
        name = command.model
        used[name] += seconds[name]
        core.ask(name)
        pending = list(core.done(name, command.requests[0], at=core.now + seconds[name]))
    assert used["slow"] / sum(used.values()) == pytest.approx(share, abs=0.02)


def test_requests_that_run_together_are_charged_once() -> None:
    core = Core(model("a", concurrency=4))
    for _ in range(4):
        core.ask("a", at=0)
    core.ready("a", at=1)
    before = core["a"].share.deficit
    for request in (1, 2, 3, 4):
        core.done("a", request, at=3)
    assert core["a"].share.deficit == pytest.approx(before - 2.0), "two seconds of the device, not eight"


def test_debts_persist_and_credit_is_dropped_when_a_queue_empties() -> None:
    core = Core(model("a", priority=9), budget=500)
    core.ask("a", at=0)
    core.ready("a", at=1)
    assert core["a"].share.deficit == 0.0, "given 0.9 s for its turn; its queue is empty now"
    core.done("a", 1, at=3)
    assert core["a"].share.deficit == -2.0
    core.ask("a", at=100)
    assert core["a"].share.deficit == 0.0, "paid off in rounds that cost nobody anything"


def test_model_that_needs_all_slots_is_dispatched_after_max_wait() -> None:
    core = Core(model("wide", slots=2, max_wait=5), model("x"), model("y"), budget=500, slots=2)
    for name in ("x", "y", "wide"):
        core.bring(name)
    x = core.ask("x", at=1)
    y = core.ask("y", at=1.5)
    wide = core.ask("wide", at=2)
    for at in range(3, 7):  # x and y always have one running and one waiting, never ending together
        next_x = core.ask("x", at=float(at))
        assert brief(core.done("x", x, at=at + 0.2)) == [f"run x#1: {next_x}"]
        next_y = core.ask("y", at=at + 0.3)
        assert brief(core.done("y", y, at=at + 0.5)) == [f"run y#2: {next_y}"]
        x, y = next_x, next_y
    core.ask("x", at=7)
    assert core.done("x", x, at=7.2) == [], "5 s are over: x is not let in before it"
    assert brief(core.done("y", y, at=7.5)) == [f"run wide#3: {wide}"]


def test_model_that_ran_a_moment_ago_is_not_starved() -> None:
    core = Core(model("a", slots=2, max_wait=5), model("x", concurrency=2, patience=100), budget=500, slots=2)
    core.bring("a", at=0)
    core.bring("x", at=1)
    core.ask("a", at=2)
    core.ask("a", at=2)
    core.ask("x", at=2)
    assert brief(core.done("a", 3, at=8)) == ["run x#2: 5"], "a has spent its quantum"
    core.ask("x", at=9)
    assert brief(core.did) == ["run x#2: 6"], "its other request has waited 7 s, but it ran until 8"


def mixed(**other: float) -> Core:
    """Two slots; a and b take 10 s, c takes 0.1 s."""
    core = Core(model("a"), model("b", **other), model("c"), budget=500, slots=2)  # type: ignore[arg-type]  # seconds
    for name, seconds in (("a", 10.0), ("b", 10.0), ("c", 0.1)):
        core.bring(name)
        core[name].footprint.run_seconds.value = seconds
    return core


def test_last_slot_is_kept_for_a_short_run() -> None:
    core = mixed()
    long = core.ask("a", at=1)
    core.ask("b", at=1)
    assert core.did == []
    assert blocked_by(core.state, core["b"], core.now) is Blocked.LAST_SLOT
    short = core.ask("c", at=1)
    assert brief(core.did) == [f"run c#3: {short}"]
    assert brief(core.done("c", short, at=1.1)) == []
    assert "run b#2: 5" in brief(core.done("a", long, at=11))


def test_two_long_runs_start_where_no_ready_model_is_short_or_a_short_one_runs() -> None:
    core = mixed()
    core.ask("c", at=1)
    core.ask("a", at=1)
    assert brief(core.did) == ["run a#1: 5"], "beside something short it takes the other slot"
    core = Core(model("a"), model("b"), budget=500, slots=2)
    for name in "ab":
        core.bring(name)
        core[name].footprint.run_seconds.value = 10.0
    core.ask("a", at=1)
    core.ask("b", at=1)
    assert brief(core.did) == ["run b#2: 4"]


def test_starved_model_may_take_the_last_slot() -> None:
    core = mixed(max_wait=5.0)
    core.ask("a", at=1)
    waiting = core.ask("b", at=1)
    assert brief(core.ring()) == [f"run b#2: {waiting}"]
    assert core.now == 6.0


def test_engine_that_is_always_busy_yields_its_slots() -> None:
    core = Core(model("a", concurrency=2, patience=4), model("b"), budget=500, slots=1)
    core.bring("a")
    core.bring("b")
    core["a"].footprint.run_seconds.value = 1.0
    first = core.ask("a", at=1)
    second = core.ask("a", at=1)
    waiting = core.ask("b", at=2)
    third = core.ask("a", at=5.5)
    assert brief(core.done("a", first, at=5.9, seconds=1.0)) == [f"run a#1: {third}"], (
        "b has waited less than 4 runs of a"
    )
    core.ask("a", at=6.1)
    assert core.done("a", second, at=6.2, seconds=1.0) == []
    assert waits_for(core.state, core["a"], core.now) == "its turn, after others that wait for its slots"
    assert brief(core.done("a", third, at=6.9)) == [f"run b#2: {waiting}"]


def test_busy_engine_yields_its_slots_sooner_to_a_higher_priority() -> None:
    core = Core(model("a", concurrency=2, patience=4, priority=3), model("b"), budget=500, slots=1)
    core.bring("a")
    core.bring("b")
    core["a"].footprint.run_seconds.value = 1.0
    first = core.ask("a", at=1)
    core.ask("a", at=1)
    core.ask("b", at=2)
    third = core.ask("a", at=13.5)
    assert brief(core.done("a", first, at=13.9, seconds=1.0)) == [f"run a#1: {third}"], (
        "three times the share, three times 4 s"
    )


def beside(**more: Any) -> Core:
    """a and b, in and at rest, of which one may run at a time; both have more work than that."""
    core = Core(model("a", **more), model("b", **more), budget=215)
    core.bring("a")
    core.bring("b", at=1)
    core.measured(at=2)
    for name in "abab":
        core.ask(name, at=3)
    return core


def test_model_without_quantum_waits_for_a_reading_that_may_free_memory_for_another() -> None:
    core = beside()
    assert core["a"].busy
    assert core.done("a", 3, at=3.5) == [], "in what it used itself it could run at once, and b never would"
    assert brief(core.measured(at=3.6)) == ["run b#2: 4"]
    assert core.done("b", 4, at=4.3) == []
    assert brief(core.measured(at=4.4)) == ["run a#1: 5"]


def test_model_without_quantum_waits_for_caches_that_may_free_memory_for_another() -> None:
    core = beside()
    core.done("a", 3, at=3.5)
    assert brief(core.measured(at=3.6, a=10)) == ["trim a#1"], "its allocator keeps it"
    core.trimmed("a", at=3.7)
    assert brief(core.measured(at=3.8)) == ["run b#2: 4"]


def test_model_with_quantum_left_does_not_wait_for_memory_of_another() -> None:
    core = beside()
    core["a"].share.deficit = 1.0
    assert brief(core.done("a", 3, at=3.5)) == ["run a#1: 5"]


def test_model_without_quantum_is_dispatched_during_a_swap_for_a_third() -> None:
    core = Core(model("a", pin=True), model("b", pin=True), model("d", activation=0), model("c", idle=90), budget=315)
    for name in "abd":
        core.bring(name)
    core.ask("d", at=1)
    core.ask("c", at=2)
    while not core.draining:
        core.ring()
    for name in "abab":
        core.ask(name)
    assert core["a"].busy
    assert brief(core.done("a", 6, at=core.now + 0.5)) == ["run a#1: 8"], (
        "the swap goes before b's run, for long perhaps"
    )


def test_long_run_takes_the_last_slot_beside_a_short_run() -> None:
    core = Core(model("a"), model("b"), model("c"), budget=500, slots=3)
    for name, seconds in (("a", 10.0), ("b", 10.0), ("c", 0.1)):
        core.bring(name)
        core[name].footprint.run_seconds.value = seconds
    core.ask("a", at=1)
    core.ask("c", at=1)
    core.ask("b", at=1)
    assert brief(core.did) == ["run b#2: 6"], "a is long, but c soon gives its slot back"
