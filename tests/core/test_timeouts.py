"""What time does, to the second."""

import pytest

from cohabit.core.commands import Cancel, Reject, Rejection, RejectReason
from cohabit.core.events import RequestCancelled, ShutdownRequested, Started
from cohabit.core.timeouts import MAX_AT_ONCE
from core.driver import Core, brief, model


def test_queue_that_became_infeasible_is_rejected_after_max_wait() -> None:
    core = Core(model("a", max_wait=3), budget=150)
    core.measured(at=1, total=1000, foreign=950)
    core.ask("a", at=2)
    assert core.did == []
    assert core.timer == 5.0
    assert core.ring() == [
        Reject(1, Rejection(RejectReason.NEVER_FITS, "a needs 110 MiB and the budget now allows 50 MiB", 60.0))
    ]
    assert core.timer is None


def test_infeasible_time_is_counted_anew_once_the_model_was_feasible() -> None:
    core = Core(model("a", max_wait=3), model("p", pin=True), budget=300)
    core.bring("p", at=0)
    core.measured(at=1, total=1000, foreign=850)
    core.ask("a", at=2)
    assert (core.did, core.timer) == ([], 5.0), "a pinned model is no room"
    assert brief(core.measured(at=4, total=1000, foreign=0)) == ["start a#2"]
    assert core["a"].infeasible_since is None


def test_deadline_ends_waiting_and_running_requests() -> None:
    core = Core(model("a"))
    running = core.ask("a", at=0, deadline=5)
    waiting = core.ask("a", deadline=3)
    core.ready("a", at=1)
    too_late = Rejection(RejectReason.DEADLINE, "the request's own time limit passed while it waited for a", 1.0)
    assert core.ring() == [Reject(waiting, too_late)]
    assert core.now == 3
    assert core.ring() == [Reject(running, too_late), Cancel(running, 1)]
    assert core.now == 5
    assert core.done("a", running, at=6) == []


def test_a_run_over_max_run_is_cancelled_and_then_its_worker_killed() -> None:
    core = Core(model("a", max_run=10))
    core.ask("a", at=0)
    core.ask("a", at=0)
    core.ready("a", at=1)
    detail = "a ran for 10 s, the most a request may (max_run)"
    assert core.ring() == [Reject(1, Rejection(RejectReason.MAX_RUN, detail)), Cancel(1, 1)]
    assert core.now == 11
    assert brief(core.ring()) == ["kill a#1: hung"]
    assert core.now == 41
    assert core.timer is None, "the exit comes, however long the kernel takes"
    assert brief(core.gone("a", at=41.5)) == ["start a#2"]
    assert core["a"].health.failures == 0, "we killed it"
    assert brief(core.ready("a", at=43)) == ["run a#2: 2"]


def test_worker_that_ignores_a_cancel_is_killed_as_hung() -> None:
    core = Core(model("a", max_run=10))
    core.ask("a", at=0)
    core.ready("a", at=1)
    assert brief(core.send(RequestCancelled(1), at=5)) == ["cancel 1 on #1"]
    assert core.timer == 35.0
    assert brief(core.ring()) == ["kill a#1: hung"]
    assert core.gone("a") == []
    assert core.rejected == {}, "its client had left"


def test_a_client_that_leaves_after_max_run_is_not_cancelled_again() -> None:
    core = Core(model("a", max_run=5))
    core.ask("a", at=0)
    core.ready("a", at=1)
    assert brief(core.ring()) == ["reject 1: max_run_exceeded", "cancel 1 on #1"]
    assert core.send(RequestCancelled(1)) == []


def test_keep_alive_stops_idle_models_only() -> None:
    core = Core(model("a", keep_alive=5), model("b"), model("c", keep_alive=5, pin=True))
    for name in "abc":
        core.bring(name)
    running = core.ask("a", at=4)
    core.done("a", running, at=8)
    assert core.timer == 13.0
    assert brief(core.ring()) == ["stop a#1: keep_alive"]
    assert core.timer is None


def test_a_drain_serves_what_was_accepted_and_halts() -> None:
    core = Core(model("a"), model("b", preload=True))
    assert brief(core.send(Started())) == ["start b#1"]
    core.ready("b")
    running, waiting = core.ask("a"), core.ask("a")
    core.ready("a")
    assert core.send(ShutdownRequested(30), at=10) == []
    assert core.timer == 40.0
    assert brief(core.done("a", running)) == [f"run a#2: {waiting}"]
    assert brief(core.done("a", waiting)) == ["stop b#1: shutdown", "stop a#2: shutdown"]
    assert core.gone("a") == []
    assert brief(core.gone("b")) == ["halt"]


def test_drain_loads_nothing_without_a_waiting_client() -> None:
    core = Core(model("a"), model("b", preload=True), budget=150)
    core.ask("a", at=0)
    assert core.send(Started()) == []
    core.ready("a", at=1)
    core.send(ShutdownRequested(30))
    assert brief(core.done("a", 1, at=2)) == ["stop a#1: shutdown"]
    assert brief(core.gone("a", at=3)) == ["halt"]


def test_end_of_a_drain_rejects_what_is_left() -> None:
    core = Core(model("a"), model("b"), model("c"))
    core.bring("b")
    core.ask("a", at=5)
    core.ask("a")
    core.ready("a", at=6)
    core.ask("c", at=7)
    core.send(ShutdownRequested(2), at=10)
    assert brief(core.ring()) == [
        "reject 2: shutting_down",
        "reject 3: shutting_down",
        "reject 4: shutting_down",
        "stop b#1: shutdown",
        "kill a#2: shutdown",
        "stop c#3: shutdown",
    ]
    assert core.now == 12
    assert core.gone("a") == []
    assert core.gone("c") == []
    assert brief(core.gone("b")) == ["halt"]


def test_end_of_a_drain_does_not_reject_an_ended_request_again() -> None:
    core = Core(model("a", max_run=5))
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.send(ShutdownRequested(10), at=2)
    assert brief(core.ring()) == ["reject 1: max_run_exceeded", "cancel 1 on #1"]
    assert brief(core.ring()) == ["kill a#1: shutdown"]
    assert core.now == 12


def test_a_worker_killed_at_the_end_of_a_drain_is_not_killed_again_for_max_run() -> None:
    core = Core(model("a", max_run=5))
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.send(ShutdownRequested(2), at=2)
    assert brief(core.ring()) == ["reject 1: shutting_down", "kill a#1: shutdown"]
    assert core.send(ShutdownRequested(99)) == [], "the first drain stands"
    assert brief(core.ring()) == ["cancel 1 on #1"]
    assert core.now == 6
    core.ring()
    assert (core.now, core.timer) == (36, None)


@pytest.mark.parametrize("state", ["starting", "ready"])
def test_an_empty_server_shuts_down_at_once(state: str) -> None:
    core = Core(model("a", preload=True))
    core.send(Started())
    if state == "ready":
        core.ready("a")
    assert brief(core.send(ShutdownRequested(30))) == ["stop a#1: shutdown"]
    assert brief(core.gone("a")) == ["halt"]


def test_event_plans_the_next_moment_of_changed_models_only() -> None:
    core = Core(model("a"), model("b"))
    core.bring("a", at=0)
    assert core.state.changed() == []


def test_deadline_holds_for_a_failed_model_that_may_start_again() -> None:
    core = Core(model("a"), budget=150)
    core.ask("a", at=0, deadline=10)
    core.gone("a", at=1)
    core.gone("a", at=2)
    assert core.timer == 4.0, "after its second failure it waits for 2 s"
    core.measured(at=3, total=1000, foreign=950)
    assert core.ring() == []
    assert core.now == 4.0
    assert brief(core.ring()) == ["reject 1: deadline_exceeded"]
    assert core.now == 10.0


def crowd(core: Core, deadline: float | None = None) -> int:
    """More requests for a than one event may end."""
    count = 2 * MAX_AT_ONCE + 1
    for _ in range(count):
        core.ask("a", at=0, deadline=deadline)
    return count


def ended_in_steps(core: Core) -> list[int]:
    """How many requests each event ended, until no more are waiting; time does not pass meanwhile."""
    at, steps = core.now, []
    while core["a"].queue:
        steps.append(sum(isinstance(command, Reject) for command in core.ring()))
        assert core.now == pytest.approx(at)
    return steps


def test_many_deadlines_are_handled_in_parts() -> None:
    core = Core(model("a", queue_limit=9999))
    count = crowd(core, deadline=5)
    assert sum(isinstance(command, Reject) for command in core.ring()) == MAX_AT_ONCE
    assert core.now == 5
    assert ended_in_steps(core) == [MAX_AT_ONCE, 1]
    assert set(core.rejected.values()) == {RejectReason.DEADLINE}
    assert len(core.rejected) == count


def test_long_queue_of_a_failed_model_is_rejected_in_parts() -> None:
    core = Core(model("a", queue_limit=9999))
    count = crowd(core)
    told = core.gone("a", at=1, permanent=True, detail="no file")
    assert len(told) == MAX_AT_ONCE
    assert ended_in_steps(core) == [MAX_AT_ONCE, 1]
    assert set(core.rejected.values()) == {RejectReason.MODEL_FAILED}
    assert len(core.rejected) == count
    assert core.timer is None


def test_long_infeasible_queue_is_rejected_in_parts() -> None:
    core = Core(model("a", max_wait=3, queue_limit=9999), budget=150)
    core.measured(at=0, total=1000, foreign=950)
    count = crowd(core)
    assert sum(isinstance(command, Reject) for command in core.ring()) == MAX_AT_ONCE
    assert core.now == 3
    assert ended_in_steps(core) == [MAX_AT_ONCE, 1]
    assert len(core.rejected) == count
