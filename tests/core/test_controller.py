"""The door: events in, commands out, and exactly one timer."""

from cohabit.core.commands import Dispatch, SetTimer, StartWorker
from cohabit.core.controller import Controller
from cohabit.core.events import (
    Event,
    RequestArrived,
    RequestCancelled,
    RequestFailed,
    RequestFinished,
    ShutdownRequested,
    Started,
    TimerFired,
    WorkerExited,
    WorkerReady,
)
from cohabit.core.ledger import Ledger
from core.driver import MIB, Core, brief, model


def controller(**settings: float) -> Controller:
    """One model a."""
    return Controller(
        [model("a", **settings)],  # type: ignore[arg-type]  # only seconds are set
        Ledger(budget=1000 * MIB, keep_free=0, slots=1),
    )


def test_first_request_loads_its_model_and_is_dispatched() -> None:
    core = Core(model("a"))
    request = core.ask("a")
    assert core.did == [StartWorker("a", 1)]
    assert core.ready("a", at=1) == [Dispatch("a", 1, (request,))]
    assert core.done("a", request) == []
    assert core.state.requests == {}


def test_nothing_begins_before_the_first_event() -> None:
    assert Core(model("a")).send(Started()) == []


def test_the_timer_is_set_when_something_is_due_moved_and_taken_back() -> None:
    core = controller(max_run=10.0)
    assert core.handle(RequestArrived(1, "a", deadline=7.0), 0.0) == [StartWorker("a", 1), SetTimer(7.0)]
    assert core.handle(WorkerReady(1, 100, 100, 1.0), 1.0) == [Dispatch("a", 1, (1,))], "7.0 stands"
    assert core.handle(RequestFinished(1, 1, 0.5, 0), 1.5) == [SetTimer(None)]
    assert core.handle(RequestArrived(2, "a"), 2.0) == [Dispatch("a", 1, (2,)), SetTimer(12.0)]
    assert core.handle(RequestArrived(3, "a", deadline=5.0), 3.0) == [SetTimer(5.0)], "the nearer one"
    assert core.handle(RequestCancelled(3), 4.0) == [SetTimer(12.0)]


def test_a_timer_that_fired_is_set_again_if_the_moment_has_not_come() -> None:
    core = controller(keep_alive=10.0, max_run=60.0)
    core.handle(RequestArrived(1, "a"), 0.0)
    core.handle(WorkerReady(1, 100, 100, 1.0), 1.0)
    assert core.handle(RequestFinished(1, 1, 0.5, 0), 2.0) == [SetTimer(12.0)]
    assert core.handle(TimerFired(), 11.9) == [SetTimer(12.0)], "clocks differ a little"
    assert brief(core.handle(TimerFired(), 12.0)) == ["stop a#1: keep_alive"]


def test_late_events_of_exited_workers_are_dropped() -> None:
    core = Core(model("a"))
    request = core.ask("a")
    core.ready("a")
    core.gone("a")
    core.gone("a")
    events: list[Event] = [
        WorkerReady(1, 1, 1, 1),
        WorkerExited(1, 0),
        RequestFailed(request, 1, sent=False),
        RequestFinished(request, 1, 0.1, 1),
        RequestCancelled(999),
    ]
    before = core["a"].health.failures
    for event in events:
        assert core.send(event) == []
    assert core["a"].health.failures == before


def test_stopping_worker_is_not_made_ready_by_a_late_event() -> None:
    core = Core(model("a"))
    core.ask("a", at=0)
    assert brief(core.send(RequestCancelled(1))) == [], "a load that has begun goes on"
    assert brief(core.send(ShutdownRequested(5))) == ["stop a#1: shutdown"]
    assert core.ready("a", at=1) == []
    assert core["a"].state == "stopping"
    assert brief(core.gone("a", at=2)) == ["halt"]


def test_cancelled_request_is_dequeued_at_once_or_cancelled_once_on_its_worker() -> None:
    core = Core(model("a"))
    running, waiting = core.ask("a"), core.ask("a")
    core.ready("a")
    assert core.send(RequestCancelled(waiting)) == []
    assert list(core.state.requests) == [running]
    assert brief(core.send(RequestCancelled(running))) == ["cancel 1 on #1"]
    assert core.send(RequestCancelled(running)) == []
    assert core.done("a", running) == []
    assert core.rejected == {}


def test_halt_is_emitted_once() -> None:
    core = Core(model("a"))
    assert brief(core.send(ShutdownRequested(5))) == ["halt"]
    assert core.send(ShutdownRequested(5)) == []
