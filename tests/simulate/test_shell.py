"""Every command ends in the event that ``core.events`` names, when it should; what was overtaken never ends."""

from collections.abc import Sequence
from typing import Any

import pytest

from cohabit.core.commands import (
    Cancel,
    Command,
    Dispatch,
    PrewarmWorker,
    Reject,
    Rejection,
    RejectReason,
    SetTimer,
    SleepWorker,
    StartWorker,
    StopCause,
    StopWorker,
    TrimWorker,
    WakeWorker,
)
from cohabit.core.events import (
    DeviceMeasured,
    Event,
    RequestArrived,
    RequestFinished,
    Slept,
    Started,
    TimerFired,
    Trimmed,
    WorkerExited,
    WorkerReady,
)
from cohabit.simulate.behaviour import Behaviour
from cohabit.simulate.shell import Stuck, VirtualShell
from simulate.small_fleet import MIB, Run, takes, two

EVICTED = (StopCause.EVICTED, "for a test")
REFUSED = Rejection(RejectReason.QUEUE_FULL, "no")


class Script:
    """In a core's place: answers the first event of a kind with what it is told to, and keeps what it hears."""

    def __init__(self, answers: dict[type[Event], Sequence[Command]], *, seconds: float = 1.0, **sleep: Any) -> None:
        """``seconds`` a load takes, ``sleep`` goes into the behaviour."""
        self.answers = dict(answers)
        self.heard: list[tuple[float, Event]] = []
        self.readings: list[DeviceMeasured] = []
        behaviour = Behaviour(
            idle=100, load=120, activation=10, sleep_resident=5, load_seconds=seconds, exit_seconds=0.5, **sleep
        )
        self.shell = VirtualShell(self.handle, {"a": behaviour}, total=1000)

    def handle(self, event: Event, now: float) -> Sequence[Command]:
        """As a controller does."""
        if isinstance(event, DeviceMeasured):
            self.readings.append(event)
        else:
            self.heard.append((now, event))
        return self.answers.pop(type(event), ())

    def story(self, *runs: float, at: float = 0.0) -> list[tuple[float, Event]]:
        """What it hears of requests that run so long; a last one far away keeps time going."""
        for run in runs:
            self.shell.ask("a", at=at, run_seconds=run)
        self.shell.ask("a", at=90.0, run_seconds=0.0)
        self.shell.run(until=89.0)
        return [(now, event) for now, event in self.heard if not isinstance(event, Started | RequestArrived)]


def test_shell_answers_load_run_and_exit() -> None:
    script = Script(
        {
            RequestArrived: [StartWorker("a", 1)],
            WorkerReady: [Dispatch("a", 1, (1,))],
            RequestFinished: [StopWorker("a", 1, *EVICTED)],
        }
    )
    assert script.story(2.0) == [
        (1.0, WorkerReady(1, idle=100, load_peak=120, seconds=1.0)),
        (3.0, RequestFinished(1, 1, seconds=2.0, peak=110)),
        (3.5, WorkerExited(1, seconds=0.5)),
    ]
    assert script.readings == [
        DeviceMeasured(1.001, 1000, 890, {1: 110}),
        DeviceMeasured(3.001, 1000, 900, {1: 100}),
        DeviceMeasured(3.501, 1000, 1000, {}),
    ]


def test_shell_answers_prewarm_and_keeps_host_copies() -> None:
    script = Script(
        {RequestArrived: [PrewarmWorker("a", 1), SetTimer(2.0)], TimerFired: [StartWorker("a", 1, keep_copy=True)]},
        wake_seconds=0.25,
        host_copy=60,
        prewarmed=7,
    )
    script.shell.ask("a", at=1.5, run_seconds=0.0)
    assert script.story(0.0)[1:] == [(3.0, WorkerReady(1, 100, 120, 1.0, host_copy=60))]
    other = Script({RequestArrived: [StartWorker("a", 1)]}, wake_seconds=0.25, host_copy=60)
    assert other.story(0.0) == [(1.0, WorkerReady(1, 100, 120, 1.0))]


def test_shell_answers_sleep_and_wake() -> None:
    script = Script(
        {
            RequestArrived: [StartWorker("a", 1)],
            WorkerReady: [SleepWorker("a", 1, *EVICTED)],
            Slept: [WakeWorker("a", 1)],
        },
        wake_seconds=0.25,
        sleep_seconds=2.0,
    )
    assert script.story(0.0) == [
        (1.0, WorkerReady(1, 100, 120, 1.0)),
        (3.0, Slept(1, held=5, seconds=2.0)),
        (3.25, WorkerReady(1, 100, 100, 0.25)),
    ]
    assert [reading.workers for reading in script.readings] == [{1: 100}, {1: 100}, {1: 100}]


def test_sleeping_worker_holds_its_sleep_resident_bytes() -> None:
    script = Script(
        {RequestArrived: [StartWorker("a", 1)], WorkerReady: [SleepWorker("a", 1, *EVICTED)]}, wake_seconds=1.0
    )
    script.story(0.0)
    assert script.readings[-1].workers == {1: 5}


def test_shell_answers_trim_and_timer() -> None:
    script = Script(
        {
            RequestArrived: [StartWorker("a", 1), SetTimer(5.0)],
            WorkerReady: [TrimWorker("a", 1, "for a test"), SetTimer(7.0)],
        }
    )
    assert script.story(0.0) == [(1.0, WorkerReady(1, 100, 120, 1.0)), (1.0, Trimmed(1)), (7.0, TimerFired())]


def test_a_timer_taken_back_never_fires() -> None:
    script = Script({RequestArrived: [StartWorker("a", 1), SetTimer(5.0)], WorkerReady: [SetTimer(None)]})
    assert script.story(0.0) == [(1.0, WorkerReady(1, 100, 120, 1.0))]


def test_batch_lasts_as_long_as_its_longest_request() -> None:
    batch = Script({RequestArrived: [StartWorker("a", 1)], WorkerReady: [Dispatch("a", 1, (1, 2))]})
    assert [(now, event.request) for now, event in batch.story(1.0, 2.0)[1:]] == [(3.0, 1), (3.0, 2)]  # type: ignore[union-attr] # all are RequestFinished
    singly = Script(
        {RequestArrived: [StartWorker("a", 1)], WorkerReady: [Dispatch("a", 1, (1,)), Dispatch("a", 1, (2,))]}
    )
    assert [(now, event.request) for now, event in singly.story(1.0, 2.0)[1:]] == [(2.0, 1), (3.0, 2)]  # type: ignore[union-attr] # all are RequestFinished


def test_a_cancelled_run_ends_at_once_and_only_once() -> None:
    script = Script(
        {
            RequestArrived: [StartWorker("a", 1)],
            WorkerReady: [Dispatch("a", 1, (1,)), SetTimer(2.0)],
            TimerFired: [Cancel(1, 1)],
        }
    )
    assert script.story(50.0)[1:] == [(2.0, TimerFired()), (2.0, RequestFinished(1, 1, seconds=0.0, peak=110))]


@pytest.mark.parametrize("command", [Cancel(1, 1), Cancel(1, 9)])
def test_late_cancel_is_ignored(command: Cancel) -> None:
    script = Script(
        {
            RequestArrived: [StartWorker("a", 1)],
            WorkerReady: [Dispatch("a", 1, (1,)), SetTimer(4.0)],
            TimerFired: [command],
        }
    )
    assert script.story(1.0)[-1] == (4.0, TimerFired())


def test_killed_worker_finishes_no_request() -> None:
    script = Script(
        {
            RequestArrived: [StartWorker("a", 1)],
            WorkerReady: [Dispatch("a", 1, (1,)), SetTimer(2.0)],
            TimerFired: [StopWorker("a", 1, StopCause.HUNG, "for a test", kill=True)],
        }
    )
    assert script.story(50.0)[1:] == [(2.0, TimerFired()), (2.5, WorkerExited(1, seconds=0.5))]


def test_worker_stopped_while_loading_is_never_ready() -> None:
    script = Script(
        {
            RequestArrived: [StartWorker("a", 1), SetTimer(0.25)],
            TimerFired: [StopWorker("a", 1, *EVICTED)],
        }
    )
    assert script.story(0.0) == [(0.25, TimerFired()), (0.75, WorkerExited(1, seconds=0.5))]


def test_readings_keep_the_interval_of_the_sampler() -> None:
    each = [Dispatch("a", 1, (number,)) for number in range(1, 11)]
    script = Script({RequestArrived: [StartWorker("a", 1)], WorkerReady: each})
    script.story(*(0.01 * number for number in range(1, 11)))
    times = [reading.at for reading in script.readings]
    assert times == pytest.approx([1.001, 1.051, 1.101])


def test_a_run_that_ends_as_a_reading_is_taken_is_seen_by_the_next() -> None:
    """Otherwise nobody would ever see free what it used, if nothing else happened."""
    script = Script(
        {RequestArrived: [StartWorker("a", 1)], WorkerReady: [Dispatch("a", 1, (1,)), Dispatch("a", 1, (2,))]}
    )
    ends = [now for now, event in script.story(0.0514, 0.0524) if isinstance(event, RequestFinished)]
    times = [reading.at for reading in script.readings]
    assert times[1] == ends[1]
    assert times == pytest.approx([1.001, 1.0524, 1.1024])


def test_client_is_called_at_the_end_and_may_ask_again() -> None:
    run = two()
    ends: list[float] = []

    def then(now: float) -> None:
        ends.append(now)
        if len(ends) < 3:
            run.shell.ask("a", at=now + 1.0, run_seconds=0.5, then=then)

    run.shell.ask("a", at=0.0, run_seconds=0.5, then=then)
    run.shell.run()
    assert ends == [1.5, 3.0, 4.5]


def test_a_rejected_request_has_ended() -> None:
    script = Script({RequestArrived: [Reject(1, REFUSED)]})
    told: list[float] = []
    script.shell.ask("a", at=3.0, run_seconds=1.0, then=told.append)
    assert script.shell.run() == 3.0
    assert told == [3.0]


def test_core_that_forgets_a_request_is_reported_as_stuck() -> None:
    script = Script({})
    script.shell.ask("a", at=2.0, run_seconds=1.0)
    with pytest.raises(Stuck, match="1 requests wait at 2 s and nothing is due"):
        script.shell.run()


def test_core_that_sets_its_timer_to_now_is_reported_as_stuck() -> None:
    shell = VirtualShell(lambda event, now: [SetTimer(now)], {}, total=0)
    shell.ask("a", at=2.0, run_seconds=1.0)
    with pytest.raises(Stuck, match="at 0 s the timer is set for the same moment again and again"):
        shell.run()


def test_shell_continues_where_it_stopped() -> None:
    run = two()
    run.shell.ask("a", at=1.0, run_seconds=1.0)
    assert run.shell.run(until=0.5) == 0.0
    assert run.shell.run(until=2.5) <= 2.5
    assert run.shell.run() == 3.0
    assert run.loads == {"a": 1}


def test_a_request_runs_for_max_run_at_most() -> None:
    run = two(max_run=5.0)
    run.shell.ask("a", at=0.0, run_seconds=60.0)
    run.shell.run()
    assert run.tally.models["a"].rejected == {"max_run_exceeded": 1}
    assert run.tally.ended == 6.0


def test_ledger_of_the_production_core_agrees_with_simulated_memory() -> None:
    """A driver that held more than the ledger says would be foreign memory, and one that held less a lie."""
    run = Run({name: takes(100 + 10 * place) for place, name in enumerate("abc")}, budget=260)
    asked = iter([("a", 0.0), ("b", 0.5), ("c", 4.0), ("a", 9.0), ("b", 9.1), ("c", 20.0)])
    for name, at in asked:
        run.shell.ask(name, at=at, run_seconds=0.3)
    run.shell.run()
    assert sum(len(tally.waits) for tally in run.tally.models.values()) == 6
    assert run.state.ledger.foreign == 0
    assert run.state.ledger.effective_budget == 260 * MIB
