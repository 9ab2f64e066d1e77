"""A process is started before there is room for its model, where that costs nobody anything."""

from typing import Any

import pytest

from cohabit.core.admin import AdminRefusal, objection
from cohabit.core.commands import StopCause
from cohabit.core.events import (
    DeviceMeasured,
    RequestCancelled,
    ShutdownRequested,
    SleepRequested,
    TimerFired,
    UnloadRequested,
    WorkerReady,
)
from cohabit.core.model_state import Model
from core.driver import MIB, Core, brief, model


def early(name: str, *, prewarmed: int | None = 10, **more: Any) -> Model:
    """100 + 10, and 10 before it is loaded."""
    return model(name, prewarmed=prewarmed, **more)


def two(*, budget: int = 150, **more: Any) -> Core:
    """Of which one fits."""
    return Core(early("a", **more), early("b", **more), budget=budget)


def waiting(**more: Any) -> Core:
    """``two``, where b waits with its process beside a busy a; its request is 2."""
    core = two(**more)
    core.ask("a", at=0)
    core.ready("a")
    core.ask("b", at=2)
    assert brief(core.did) == ["prewarm b#2"]
    return core


def test_process_is_prewarmed_while_its_model_waits_for_room() -> None:
    core = two()
    core.ask("a", at=0)
    core.ready("a")
    assert brief(core.did) == ["start a#1"], "a model that has room is loaded at once"
    core.ask("b", at=2)
    assert brief(core.did) == ["prewarm b#2"]
    assert core["b"].state == "prewarmed"
    assert core.state.ledger.accounts[2].held == 10 * MIB
    core.ask("b", at=2.1)
    assert brief(core.did) == [], "once"
    while not core.draining:
        core.ring()
    core.done("a", 1)
    did = core.gone("a", at=core.now + 0.1)
    assert brief(did) == ["start b#2"], "in the same process"
    assert core.state.ledger.accounts[2].held == 100 * MIB
    assert brief(core.ready("b")) == ["run b#2: 2"]


def test_process_is_prewarmed_beside_a_victim_that_stops_at_once() -> None:
    core = two()
    core.bring("a", at=0)
    core.ask("b", at=20)
    assert brief(core.did) == ["stop a#1: evicted", "prewarm b#2"]
    assert brief(core.gone("a", at=20.1)) == ["start b#2"]


def test_process_is_not_prewarmed_before_its_size_is_known() -> None:
    core = two(prewarmed=None)
    core.bring("a", at=0)
    core.ask("b", at=20)
    assert brief(core.did) == ["stop a#1: evicted"]
    core.gone("a", at=20.1)
    core.send(WorkerReady(2, 100 * MIB, 100 * MIB, 1.0, prewarmed=7 * MIB), at=21)
    assert core["b"].footprint.prewarmed == 7 * MIB, "every load tells"


@pytest.mark.parametrize(("budget", "prewarmed"), [(119, []), (120, ["prewarm b#2"])])
def test_process_is_not_prewarmed_where_it_would_block_runs(budget: int, prewarmed: list[str]) -> None:
    core = two(budget=budget)
    core.ask("a", at=0)
    core.ready("a")
    core.ask("b", at=2)
    assert brief(core.did) == prewarmed


def test_process_is_not_prewarmed_beyond_the_budget() -> None:
    core = Core(early("a"), early("b"), model("c", idle=1, activation=0), budget=130)
    core.bring("a", at=0)
    core.done("a", core.ask("a", at=1), at=1.1, used=25)
    core.ask("b", at=1.2)
    assert brief(core.did) == [], "what the run used is not seen to be free yet"


def test_one_process_at_a_time_is_prewarmed_for_the_most_urgent() -> None:
    core = Core(early("a"), early("b", max_wait=60), early("c", max_wait=20), budget=150)
    core.ask("a", at=0)
    core.ready("a")
    core.ask("b", at=2)
    assert brief(core.did) == ["prewarm b#2"]
    core.ask("c", at=2)
    assert brief(core.did) == []


def test_no_process_is_prewarmed_for_a_preload_or_background_work() -> None:
    core = Core(early("a"), early("b", preload=True), early("c"), budget=150)
    core.ask("a", at=0)
    core.ready("a")
    core.ask("c", at=2, background=True)
    assert brief(core.did) == []


def test_prewarmed_process_is_stopped_when_its_model_has_no_waiters() -> None:
    core = waiting()
    did = core.send(RequestCancelled(2), at=3)
    assert brief(did) == [f"stop b#2: {StopCause.UNNEEDED}"]
    assert core.gone("b", at=3.1) == []
    assert core.state.ledger.reserved == 110 * MIB


def test_prewarmed_process_is_stopped_for_a_model_that_can_be_loaded() -> None:
    core = Core(early("a"), early("b"), model("c", idle=30, activation=0, load_seconds=0.1), budget=145)
    core.ask("a", at=0)
    core.ready("a")
    core.ask("b", at=2)
    assert brief(core.did) == ["prewarm b#2"]
    core.ask("c", at=2.5)
    assert brief(core.did) == [f"stop b#2: {StopCause.UNNEEDED}"]
    assert core.state.inflation == 0, "it is nobody's eviction"
    assert brief(core.gone("b", at=2.6)) == ["start c#3"]


def test_prewarmed_process_is_stopped_first_when_the_budget_shrinks() -> None:
    core = waiting()
    reading = DeviceMeasured(3, 115 * MIB, 5 * MIB, {1: 100 * MIB, 2: 10 * MIB})
    assert brief(core.send(reading, at=3)) == [f"stop b#2: {StopCause.UNNEEDED}"]


def test_prewarmed_process_takes_nothing_of_a_gpu() -> None:
    core = waiting(prewarmed=0, budget=110)
    core.send(DeviceMeasured(3, 1000 * MIB, 800 * MIB, {1: 110 * MIB}), at=3)
    assert core.state.ledger.foreign == 90 * MIB, "the reading is whole without it"


def test_prewarmed_process_that_dies_is_a_failed_start() -> None:
    core = waiting()
    assert brief(core.gone("b", at=3, detail="no such library")) == ["prewarm b#3"]
    assert core.gone("b", at=4) == [], "then there is a pause"
    assert core["b"].health.failures == 2
    assert brief(core.send(TimerFired(), at=6.1)) == ["prewarm b#4"]
    core.gone("b", at=7, detail="no such library")
    assert core.rejected == {2: "model_failed"}
    assert core["a"].state == "ready", "nobody has left for it"


def test_permanent_failure_to_prewarm_rejects_the_queue_at_once() -> None:
    core = waiting()
    core.gone("b", at=3, detail="its files are not there", permanent=True)
    assert core.rejected == {2: "model_failed"}
    assert brief(core.send(TimerFired(), at=40)) == []
    core.ask("b", at=40)
    assert brief(core.did) == ["prewarm b#3"], "a probe"


def test_prewarmed_process_can_be_unloaded_and_cannot_sleep() -> None:
    core = waiting()
    refused = objection(core.state, SleepRequested("b"))
    assert refused is not None
    assert refused.refusal is AdminRefusal.NOT_LOADED
    assert brief(core.send(UnloadRequested("b"), at=3)) == ["stop b#2: admin"]
    assert brief(core.gone("b", at=3.1)) == ["prewarm b#3"], "what waits goes on waiting"


def test_shutdown_stops_a_prewarmed_process() -> None:
    core = waiting()
    did = core.send(ShutdownRequested(0), at=3)
    assert "stop b#2: shutdown" in brief(did)
    core.gone("b", at=3.1)
    assert brief(core.gone("a", at=3.2)) == ["halt"]


def test_next_waiters_process_is_prewarmed_once_the_first_is_stopped() -> None:
    core = Core(early("a", patience=1000.0), early("b"), early("c"), budget=150)
    core.ask("a", at=0)
    core.ready("a")
    core.ask("c", at=2, background=True)
    assert brief(core.ring()) == ["prewarm c#2"], "it has become urgent"
    core.ask("b", at=23)
    assert core.did == []
    did = core.send(ShutdownRequested(drain=60.0), at=24)
    assert brief(did) == ["reject 2: shutting_down", "stop c#2: unneeded", "prewarm b#3"], (
        "what is background goes first"
    )
