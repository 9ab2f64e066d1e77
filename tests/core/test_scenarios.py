"""Whole stories, event by event, with the exact commands that must follow each."""

import pytest

from cohabit.core.commands import Cancel, Command, Dispatch, Halt, Reject, StartWorker, StopCause, StopWorker
from cohabit.core.events import (
    Event,
    RequestCancelled,
    RequestFailed,
    RequestFinished,
    ShutdownRequested,
    Started,
    WorkerExited,
    WorkerReady,
)
from cohabit.core.reasons import RejectReason
from core.driver import MIB, Core, model


def two(**more: object) -> Core:
    """Two models of which only one fits; a switch costs 1 s, patience 4, max_wait 30 s."""
    settings: dict[str, object] = {"load_seconds": 1.0, **more}
    return Core(model("a", **settings), model("b", **settings), budget=150)  # type: ignore[arg-type]  # a stand-in, or drawn fields


def stops(commands: object) -> list[tuple[str, StopCause]]:
    """Who is told to leave and why."""
    assert isinstance(commands, list)
    return [(command.model, command.cause) for command in commands if isinstance(command, StopWorker)]


# bringing in


def test_the_first_request_brings_the_model_in_and_is_given_to_it() -> None:
    core = two()
    request = core.ask("a")
    assert core.did == [StartWorker("a", 1)]
    assert core.ready("a", at=1) == [Dispatch("a", 1, (request,))]
    assert core.done("a", request) == []
    assert core["a"].footprint.load_seconds.value == 1.0


def test_two_models_of_which_one_fits_are_served_by_turns() -> None:
    core = two()
    core.bring("a", at=0)
    second = core.ask("b", at=10)  # a has been idle for longer than its return costs
    assert stops(core.did) == [("a", StopCause.EVICTED)]
    assert core.gone("a", at=10.1) == [StartWorker("b", 2)]
    assert core.ready("b", at=11.1) == [Dispatch("b", 2, (second,))]


def test_a_model_comes_in_without_eviction_where_there_is_room() -> None:
    core = Core(model("a"), model("b"), budget=230)
    core.bring("a")
    core.ask("b")
    assert core.did == [StartWorker("b", 2)]


def test_room_is_left_for_the_largest_run_of_any_resident() -> None:
    # 100 + 100 + 10 would do for b itself, but then a (working 100) could never run beside it
    core = Core(model("a", working=100), model("b", load_seconds=1), budget=250)
    core.bring("a", at=0)
    core.ask("b", at=10)
    assert stops(core.did) == [("a", StopCause.EVICTED)]


def test_the_load_is_reserved_before_it_starts() -> None:
    core = Core(model("a", load=140), model("b"), budget=160)
    core.ask("a")
    assert core.books.ledger.reserved == 140 * MIB
    core.ask("b")
    assert core.did == [], "the load's peak leaves no room beside it"
    core.ready("a")
    assert core.books.ledger.reserved == 110 * MIB, "ready, it runs the waiting request"


def test_preload_takes_free_room_only() -> None:
    core = Core(model("a", preload=True), model("b", preload=True), budget=150)
    assert core.send(Started()) == [StartWorker("a", 1)]
    assert core.ready("a", at=1) == []
    assert core.measured(at=100) == [], "nobody waits for b, so nobody leaves for it"
    core.ask("a", at=101)
    assert core.did == [Dispatch("a", 1, (1,))]


# who may be evicted, and when


def test_a_busy_model_serves_patience_times_the_cost_before_it_is_drained() -> None:
    core = two()
    busy = core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=1.5)
    assert core.did == []
    assert core.timer is not None
    assert core.timer == pytest.approx(5.0), "came in at 1, patience 4 times 1 s"
    assert core.ring() == []
    assert core["a"].draining
    core.ask("a", at=5.1)
    assert core.did == [], "a draining model takes nothing new"
    assert stops(core.done("a", busy, at=6)) == [("a", StopCause.EVICTED)]
    assert core.gone("a", at=6.1) == [StartWorker("b", 2)]


def test_a_waiter_pays_the_price_of_the_switch_in_waiting_first() -> None:
    core = two()
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=100)  # a has long served its patience
    assert not core["a"].draining
    assert core.timer == pytest.approx(101.0)
    core.ring()
    assert core["a"].draining


def test_max_wait_beats_patience() -> None:
    core = two(max_wait=2.0, load_seconds=10.0)
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=2)
    assert core.timer == pytest.approx(4.0)
    core.ring()
    assert core["a"].draining


def test_idle_for_less_than_its_return_cost_counts_as_busy() -> None:
    core = two()
    core.bring("a", at=0)
    core.ask("b", at=0.5)
    assert core.did == []
    assert stops(core.ring()) == [("a", StopCause.EVICTED)]
    assert core.now == pytest.approx(1.0)


def test_a_pinned_model_is_never_evicted() -> None:
    core = Core(
        model("a", pin=True, working=5), model("b", resident=40, working=5), model("c", resident=40), budget=160
    )
    core.bring("a")
    core.bring("b", at=10)
    core.ask("c", at=1000)
    assert stops(core.did) == [("b", StopCause.EVICTED)]


def test_a_model_brought_in_for_a_waiter_is_not_evicted_before_it_has_served() -> None:
    core = Core(model("a", slots=2), model("b", slots=2), model("c"), budget=260, slots=2)
    running = core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=1)
    core.ready("b", at=2)  # its waiter wants slots that a holds
    core.ask("c", at=20)
    core.ring()
    assert core["a"].draining
    assert not core["b"].draining
    assert core.done("a", running, at=21)[0] == Dispatch("b", 2, (2,))


def test_as_few_leave_as_suffice() -> None:
    core = Core(
        model("small", resident=50, load_seconds=0.1),
        model("large", resident=200, load_seconds=5),
        model("new", resident=200, load_seconds=1),
        budget=300,
    )
    core.bring("small", at=0)
    core.bring("large", at=1)
    core.ask("new", at=100)
    assert [name for name, _ in stops(core.did)] == ["large"], "small goes first by score, but need not go at all"


def test_the_least_useful_goes_first() -> None:
    core = Core(*(model(name, load_seconds=1) for name in "abc"), budget=230)
    core.bring("a", at=0)
    core.bring("b", at=1)
    for at in (2, 3, 4):
        core.done("a", core.ask("a", at=at))
    core.measured()
    core.ask("c", at=100)
    assert [name for name, _ in stops(core.did)] == ["b"]


# the claim


def test_freed_bytes_accrue_to_the_claim() -> None:
    core = Core(
        model("a", resident=100, working=60, concurrency=2),
        model("b", resident=100, working=10, load_seconds=0.5),
        model("c", resident=250, working=20, load_seconds=1),
        budget=420,
    )
    core.bring("a", at=0)
    core.bring("b", at=1)
    core.ask("c", at=50)
    assert [name for name, _ in stops(core.did)] == ["b"], "100 at rest + 270 fit"
    held = core.ask("a", at=50.1)
    assert core.did == [], "its 60 would eat what c was promised"
    assert core.gone("b", at=50.2) == [StartWorker("c", 3), Dispatch("a", 1, (held,))], "c has its bytes; a the rest"
    assert core.ready("c", at=51.2) == []
    assert core.done("a", held, at=51.3) == [], "a's allocator may keep what the run took"
    assert core.measured(at=51.4) == [Dispatch("c", 3, (3,))]


def test_a_claim_whose_last_client_leaves_is_withdrawn_and_its_victims_serve_on() -> None:
    core = two()
    running = core.ask("a", at=0)
    core.ready("a", at=1)
    waiter = core.ask("b", at=100)
    core.ring()
    kept = core.ask("a")
    assert core.books.models["a"].draining
    assert core.send(RequestCancelled(waiter)) == []
    assert core.books.claim is None
    assert not core["a"].draining
    assert core.done("a", running) == [Dispatch("a", 1, (kept,))], "nobody was evicted for a client that has left"


def test_a_stopping_victim_is_never_resurrected() -> None:
    core = two()
    core.bring("a", at=0)
    waiter = core.ask("b", at=10)
    assert stops(core.did)
    core.send(RequestCancelled(waiter))
    again = core.ask("a", at=10.01)
    assert core.did == [], "it is on its way out; its next start is a new worker"
    assert core.gone("a", at=10.1) == [StartWorker("a", 2)]
    assert core.ready("a", at=11) == [Dispatch("a", 2, (again,))]


def test_two_loads_never_hold_and_wait() -> None:
    core = Core(*(model(name, resident=100, load_seconds=1) for name in "abcd"), budget=240)
    core.bring("a", at=0)
    core.bring("b", at=1)
    core.ask("c", at=100)
    core.ask("d", at=100)
    assert core.books.claim is not None
    claimed = core.books.claim.model
    assert claimed == "c"
    assert len([m for m in core.books.models.values() if m.state == "stopping"]) == 1, "one claim, one victim"


def test_a_ready_model_that_lacks_working_memory_claims_room() -> None:
    core = Core(model("a", working=10), model("b"), budget=230)
    core.bring("a", at=0)
    core.bring("b", at=1)
    core.measured(at=100, foreign=0, total=205)  # the device has less than was thought
    core.ask("a", at=101)
    assert [name for name, _ in stops(core.did)] == ["b"]
    assert core.gone("b", at=101.1) == [Dispatch("a", 1, (3,))]


# memory that is not ours


def test_a_release_counts_when_the_process_is_reaped() -> None:
    core = two()
    core.bring("a", at=0)
    core.ask("b", at=10)
    assert core.measured(at=10.05) == [], "whatever the device shows"
    assert core.books.ledger.reserved >= 100 * MIB
    assert core.gone("a", at=11) == [StartWorker("b", 2)]


def test_nothing_is_reserved_while_foreign_memory_leaves_no_room() -> None:
    core = Core(model("a"), model("b"), budget=300)
    core.bring("a", at=0)
    assert stops(core.measured(at=0.3, total=1000, foreign=850)) == []
    assert core.books.ledger.effective_budget == 150 * MIB
    core.ask("b", at=0.4)
    assert core.did == []
    assert stops(core.measured(at=0.5, total=1000, foreign=950)) == [("a", StopCause.OVER_BUDGET)]
    assert core.gone("a", at=2.1) == []
    assert core.measured(at=3, total=1000, foreign=0) == [StartWorker("b", 2)]


def test_our_own_load_is_not_taken_for_a_strangers() -> None:
    core = Core(model("a"), model("b"), budget=300)
    core.bring("a", at=0)
    core.measured(at=1, total=1000)
    core.ask("b", at=2)
    # b's half-loaded bytes are used on the device and measured for no ready worker
    core.measured(at=2.5, total=1000, foreign=80)
    assert core.books.ledger.foreign == 0
    core.ready("b", at=3)
    assert core.books.ledger.effective_budget == 300 * MIB


def test_what_an_allocator_keeps_stays_booked_until_a_later_reading() -> None:
    core = Core(model("a", working=50), model("b"), budget=240)
    request = core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=1)
    core.done("a", request, at=2)
    assert core.books.ledger.reserved == 150 * MIB
    core.measured(at=2.0, a=0)
    assert core.books.ledger.reserved == 150 * MIB, "a reading begun before the end says nothing"
    core.measured(at=3.0, a=20)
    assert core.books.ledger.reserved == 120 * MIB


# dispatch


def test_a_model_takes_its_slots_while_anything_is_in_flight() -> None:
    core = Core(model("a", slots=1, concurrency=2), model("b", slots=2), budget=500, slots=2)
    core.ask("b", at=0)
    core.ready("b")
    core.ask("a")
    core.ready("a", at=1)
    core.ask("a")
    assert core.did == []
    assert core.done("b", 1, at=2) == [Dispatch("a", 2, (2,)), Dispatch("a", 2, (3,))]
    assert core.books.ledger.slots_used == 1, "one holding for all requests of a model"


def test_clients_of_one_model_take_turns() -> None:
    core = Core(model("a"))
    first = core.ask("a", client="many")
    many = [core.ask("a", client="many") for _ in range(3)]
    one = core.ask("a", client="one")
    core.ready("a")
    order = []
    running = first
    for _ in range(4):
        (command,) = core.done("a", running)
        assert isinstance(command, Dispatch)
        (running,) = command.requests
        order.append(running)
    assert order.index(one) <= 1
    assert [request for request in order if request != one] == many


def test_batches_are_what_waits_when_the_worker_is_free() -> None:
    core = Core(model("a", max_batch=3))
    for _ in range(5):
        core.ask("a")
    assert core.ready("a") == [Dispatch("a", 1, (1, 2, 3))]
    assert core.done("a", 1) == []
    assert core.done("a", 2) == []
    assert core.done("a", 3) == [Dispatch("a", 1, (4, 5))]


@pytest.mark.parametrize(("priority", "share"), [(1.0, 0.5), (3.0, 0.75)])
def test_device_time_is_shared_by_priority(priority: float, share: float) -> None:
    """One slot, a 350 ms model beside a 5 ms one, both always wanted."""
    core = Core(model("slow", priority=priority), model("fast"), budget=500, slots=1)
    seconds = {"slow": 0.35, "fast": 0.005}
    used = dict.fromkeys(seconds, 0.0)
    for name in seconds:
        core.ask(name)
        core.ask(name)
    pending = list(core.ready("slow"))
    pending += core.ready("fast")
    while sum(used.values()) < 60:
        (command,) = [one for one in pending if isinstance(one, Dispatch)]
        name = command.model
        used[name] += seconds[name]
        core.ask(name)
        pending = list(core.done(name, command.requests[0], at=core.now + seconds[name]))
    assert used["slow"] / sum(used.values()) == pytest.approx(share, abs=0.03)


def test_a_model_that_needs_all_slots_is_not_overtaken_for_ever() -> None:
    core = Core(model("wide", slots=2, max_wait=5), model("x"), model("y"), budget=500, slots=2)
    for name in ("x", "y", "wide"):
        core.bring(name)
    x = core.ask("x", at=1)
    y = core.ask("y", at=1.5)
    wide = core.ask("wide", at=2)
    for at in range(3, 9):  # x and y always have one running and one waiting, never ending together
        following = core.ask("x", at=float(at))
        core.done("x", x, at=at + 0.2)
        x = following
        following = core.ask("y", at=at + 0.3)
        commands = core.done("y", y, at=at + 0.5)
        y = following
        if at + 0.5 - 2 >= 5:
            break
    assert commands == [Dispatch("wide", core.workers["wide"], (wide,))], "x was not let in before it"


# admission and time


def test_a_full_queue_is_refused_with_an_honest_time() -> None:
    core = Core(model("a", queue_limit=1, load_seconds=7))
    core.ask("a")
    core.ask("a")
    (command,) = core.did
    assert isinstance(command, Reject)
    assert command.rejection.reason is RejectReason.QUEUE_FULL
    assert command.rejection.retry_after == pytest.approx(7.2), "the load and two runs"


def test_a_model_that_never_fits_is_refused_at_once() -> None:
    core = Core(model("a", resident=140, working=20), budget=150)
    core.ask("a")
    assert core.rejected == {1: RejectReason.NEVER_FITS}


def test_pinned_models_count_against_what_can_ever_fit() -> None:
    core = Core(model("a", pin=True), model("b"), budget=150)
    core.ask("b")
    assert core.rejected == {1: RejectReason.NEVER_FITS}


def test_what_became_infeasible_is_told_after_max_wait() -> None:
    core = Core(model("a", max_wait=3), budget=150)
    core.measured(at=1, total=1000, foreign=950)
    core.ask("a", at=2)
    assert core.did == []
    assert core.timer == pytest.approx(5.0)
    core.ring()
    assert core.rejected == {1: RejectReason.NEVER_FITS}


def test_deadlines_pass_waiting_and_running() -> None:
    core = Core(model("a"))
    running = core.ask("a", at=0, deadline=5)
    waiting = core.ask("a", deadline=3)
    core.ready("a", at=1)
    core.ring()
    assert (core.now, core.rejected) == (3, {waiting: RejectReason.DEADLINE})
    assert core.ring() == [Reject(running, core.books.out[0].rejection), Cancel(running, 1)]  # type: ignore[union-attr]  # a Reject
    assert core.done("a", running, at=6) == []
    core.ask("a", deadline=1)
    assert core.rejected[3] is RejectReason.DEADLINE


def test_a_run_over_max_run_is_cancelled_and_then_its_worker_killed() -> None:
    core = Core(model("a", max_run=10))
    core.ask("a", at=0)
    core.ready("a", at=1)
    commands = core.ring()
    assert core.now == 11
    assert commands[1:] == [Cancel(1, 1)]
    assert core.rejected == {1: RejectReason.MAX_RUN}
    (stop,) = core.ring()
    assert isinstance(stop, StopWorker)
    assert (stop.cause, stop.kill, core.now) == (StopCause.HUNG, True, 41)


def test_keep_alive_stops_an_idle_model_and_no_other() -> None:
    core = Core(model("a", keep_alive=5), model("b"), model("c", keep_alive=5, pin=True))
    for name in "abc":
        core.bring(name)
    running = core.ask("a", at=4)
    core.done("a", running, at=8)
    assert core.timer == pytest.approx(13)
    assert stops(core.ring()) == [("a", StopCause.KEEP_ALIVE)]


# failures


def test_what_was_not_sent_is_tried_once_more_alone() -> None:
    core = Core(model("a", concurrency=3))
    requests = [core.ask("a") for _ in range(3)]
    core.ready("a")
    assert core.gone("a", sent=frozenset({requests[0]})) != []
    assert core.rejected == {requests[0]: RejectReason.WORKER_DIED}
    (first,) = [command for command in core.ready("a") if isinstance(command, Dispatch)]
    assert len(first.requests) == 1, "a suspect runs alone"
    core.gone("a")
    assert core.rejected[first.requests[0]] is RejectReason.WORKER_DIED, "twice is enough"
    assert len(core.rejected) == 2


def test_a_failing_model_backs_off_fails_and_is_probed() -> None:
    core = Core(model("a"))
    core.ask("a", at=0)
    assert core.gone("a", at=1) == [StartWorker("a", 2)], "the first time at once"
    assert core.gone("a", at=2, detail="no file") == []
    assert core.timer == pytest.approx(4.0)
    assert core.ring() == [StartWorker("a", 3)]
    core.gone("a", at=5, detail="no file")
    assert core["a"].state == "failed"
    assert core.rejected == {1: RejectReason.MODEL_FAILED}
    core.ask("a", at=6)
    (command,) = core.did
    assert isinstance(command, Reject)
    assert "no file" in command.rejection.detail
    assert command.rejection.retry_after == pytest.approx(29)
    core.ask("a", at=36)
    assert core.did == [StartWorker("a", 4)], "the next start is a probe"


def test_a_start_that_cannot_succeed_fails_at_once() -> None:
    core = Core(model("a"))
    core.ask("a")
    core.gone("a", permanent=True, detail="no file")
    assert core.rejected == {1: RejectReason.MODEL_FAILED}


def test_out_of_memory_is_tried_once_more_alone() -> None:
    core = Core(model("a"))
    request = core.ask("a")
    core.ready("a")
    failed = RequestFailed(request, 1, sent=False, out_of_memory=True)
    assert core.send(failed) == [Dispatch("a", 1, (request,))]
    core.send(failed)
    assert core.rejected == {request: RejectReason.OUT_OF_MEMORY}


def test_an_engines_refusal_is_the_requests_end() -> None:
    core = Core(model("a"))
    request = core.ask("a")
    core.ready("a")
    core.send(RequestFailed(request, 1, sent=False))
    assert core.rejected == {request: RejectReason.ENGINE}


def test_late_word_of_workers_long_gone_is_dropped() -> None:
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
    for event in events:
        assert core.send(event) == []


# shutting down


def test_a_drain_serves_what_was_accepted_and_halts() -> None:
    core = Core(model("a"), model("b", preload=True))
    core.send(Started())
    core.ready("b")
    running, waiting = core.ask("a"), core.ask("a")
    core.ready("a")
    core.send(ShutdownRequested(30))
    core.ask("a")
    assert core.rejected == {3: RejectReason.SHUTTING_DOWN}
    assert core.done("a", running) == [Dispatch("a", 2, (waiting,))]
    assert stops(core.done("a", waiting)) == [("b", StopCause.SHUTDOWN), ("a", StopCause.SHUTDOWN)]
    assert core.gone("a") == []
    assert core.gone("b") == [Halt()]


def test_a_drain_that_is_over_ends_what_is_left() -> None:
    core = Core(model("a"))
    running, waiting = core.ask("a"), core.ask("a")
    core.ready("a")
    core.send(ShutdownRequested(2), at=10)
    commands = core.ring()
    assert core.now == 12
    assert core.rejected == dict.fromkeys((running, waiting), RejectReason.SHUTTING_DOWN)
    assert isinstance(commands[-1], StopWorker)
    assert commands[-1].kill
    assert core.gone("a") == [Halt()]


# overload


def test_two_overloaded_models_switch_no_more_often_than_patience_says() -> None:
    """Both queues always full, only one fits: four fifths of the time serves."""
    core = two(load_seconds=1.0, exit_seconds=0.0)
    answered = {"a": 0, "b": 0}
    for name in answered:
        for _ in range(3):
            core.ask(name)
    now, loads = 0.0, 0
    pending: list[Command] = [*core.books.out]
    while now < 300:
        step = next((one for one in pending if isinstance(one, StartWorker | StopWorker | Dispatch)), None)
        if step is None:
            running = [(m.name, request) for m in core.books.models.values() for request in m.running]
            if running:
                pending = _finish(core, *running[0], answered)
            elif any(m.state == "starting" for m in core.books.models.values()):
                name = next(m.name for m in core.books.models.values() if m.state == "starting")
                pending, loads = list(core.ready(name, at=core.now + 1)), loads + 1
            elif any(m.state == "stopping" for m in core.books.models.values()):
                name = next(m.name for m in core.books.models.values() if m.state == "stopping")
                pending = list(core.gone(name, at=core.now + 0.01))
            else:
                pending = list(core.ring())
        else:
            pending = []
        now = core.now
    assert min(answered.values()) > 300
    assert loads <= 300 / 5 + 2, f"{loads} loads"


def _finish(core: Core, name: str, request: int, answered: dict[str, int]) -> list[Command]:
    answered[name] += 1
    core.ask(name)
    core.done(name, request, at=core.now + 0.1)
    core.measured(at=core.now)
    return []


def test_runs_in_the_way_of_a_load_are_held_up_no_sooner_than_a_switch_would_be_worth_it() -> None:
    # b fits beside an idle a (100 + 100 + 60), not beside a running one while it loads (160 + 160)
    core = Core(model("a", working=60, concurrency=2), model("b", load=160, load_seconds=3), budget=290)
    running = core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=50)
    assert core.did == []
    assert not core.books.claim
    beside = core.ask("a", at=50.5)
    assert core.did == [Dispatch("a", 1, (beside,))], "a goes on for now"
    core.ring()
    assert core.now == pytest.approx(53.0)
    assert core.books.claim is not None
    assert core.books.claim.victims == []
    core.ask("a", at=53.5)
    assert core.did == [], "its runs end, and no new one begins"
    core.done("a", running, at=54)
    assert core.done("a", beside, at=54.1) == []
    assert core.measured(at=54.2) == [StartWorker("b", 2)]


def test_an_unknown_model_is_refused() -> None:
    core = Core(model("a"))
    core.ask("nobody")
    assert core.rejected == {1: RejectReason.UNKNOWN_MODEL}


def test_a_failure_of_a_request_whose_client_has_left_is_nobodys() -> None:
    core = Core(model("a"))
    request = core.ask("a")
    core.ready("a")
    assert core.send(RequestCancelled(request)) == [Cancel(request, 1)]
    assert core.send(RequestFailed(request, 1, sent=True)) == []
    assert core.rejected == {}


def test_it_halts_once() -> None:
    core = Core(model("a"))
    assert core.send(ShutdownRequested(5)) == [Halt()]
    assert core.send(ShutdownRequested(5)) == []
