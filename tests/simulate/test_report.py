"""What is counted, against stories short enough to count by hand."""

from typing import Any

import pytest

from cohabit.core.commands import (
    Dispatch,
    Reject,
    Rejection,
    RejectReason,
    SleepWorker,
    StartWorker,
    StopCause,
    StopWorker,
    WakeWorker,
)
from cohabit.core.events import RequestArrived, RequestFinished, Slept, TimerFired, WorkerExited, WorkerReady
from cohabit.simulate.report import as_table, quantiles, report
from cohabit.simulate.stats import Tally
from simulate.small_fleet import two

REFUSED = Rejection(RejectReason.QUEUE_FULL, "no")


def story() -> dict[str, Any]:
    """``a`` serves two at once, makes way for ``b``, which serves two; one more finds the queue full."""
    run = two(concurrency=2, queue_limit=2)
    for _ in range(2):
        run.shell.ask("a", at=10.0, run_seconds=2.0)
    for _ in range(3):
        run.shell.ask("b", at=20.0, run_seconds=1.0)
    run.shell.run()
    return report(run.tally, "gdsf")


def test_report_counts_what_happened() -> None:
    told = story()
    assert {
        key: told[key] for key in ("policy", "requests", "served", "rejected", "loads", "wakes", "evictions")
    } == {
        "policy": "gdsf",
        "requests": 5,
        "served": 4,
        "rejected": {"queue_full": 1},
        "loads": 2,
        "wakes": 0,
        "evictions": {"evicted": 1},
    }
    assert told["load_seconds"] == pytest.approx(2.0)
    assert told["wait"] == {
        "a": pytest.approx({"p50": 1.0, "p95": 1.0, "p99": 1.0, "max": 1.0}),
        "b": pytest.approx({"p50": 1.02, "p95": 1.02, "p99": 1.02, "max": 1.02}),
    }
    assert told["wait_all"] == pytest.approx({"p50": 1.0, "p95": 1.02, "p99": 1.02, "max": 1.02})
    assert told["seconds"] == pytest.approx(12.02)
    assert told["serving_share"] == pytest.approx(3.0 / 12.02), "what runs side by side counts once"
    assert told["models"]["b"] == {
        "requests": 3,
        "served": 2,
        "rejected": {"queue_full": 1},
        "loads": 1,
        "load_seconds": pytest.approx(1.0),
        "wakes": 0,
        "wake_seconds": 0.0,
        "run_seconds": pytest.approx(2.0),
        "evictions": {},
    }


def test_sleeping_and_waking_are_counted_apart_from_loads() -> None:
    tally = Tally()
    evicted = (StopCause.EVICTED, "for a test")
    tally.handled(RequestArrived(1, "a"), [StartWorker("a", 1)], 0.0)
    tally.handled(WorkerReady(1, 1, 1, 4.0), [Dispatch("a", 1, (1,))], 4.0)
    tally.handled(RequestFinished(1, 1, 1.0, 1), [SleepWorker("a", 1, *evicted)], 5.0)
    tally.handled(Slept(1, 0, 0.5), [WakeWorker("a", 1)], 5.5)
    tally.handled(WorkerReady(1, 1, 1, 0.25), [StopWorker("a", 1, StopCause.KEEP_ALIVE, "for a test")], 5.75)
    tally.handled(WorkerExited(1, 0.1), [], 5.85)
    told = report(tally, "lru")
    assert (told["loads"], told["load_seconds"], told["wakes"], told["wake_seconds"]) == (1, 4.0, 1, 0.25)
    assert told["evictions"] == {"evicted": 1, "keep_alive": 1}


def test_aborted_load_counts_the_seconds_it_lasted() -> None:
    tally = Tally()
    tally.handled(RequestArrived(1, "a"), [StartWorker("a", 1)], 0.0)
    tally.handled(TimerFired(), [Reject(1, REFUSED), StopWorker("a", 1, StopCause.SHUTDOWN, "")], 1.5)
    tally.handled(WorkerExited(1, 0.5), [], 2.0)
    assert report(tally, "gdsf")["load_seconds"] == 1.5


def test_wait_of_a_retried_request_counts_to_its_last_dispatch() -> None:
    tally = Tally()
    tally.handled(RequestArrived(1, "a"), [StartWorker("a", 1)], 0.0)
    tally.handled(WorkerReady(1, 1, 1, 1.0), [Dispatch("a", 1, (1,))], 1.0)
    tally.handled(WorkerExited(1, 0.0), [StartWorker("a", 2)], 3.0)
    tally.handled(WorkerReady(2, 1, 1, 1.0), [Dispatch("a", 2, (1,))], 4.0)
    tally.handled(RequestFinished(1, 2, 2.0, 1), [], 6.0)
    told = report(tally, "gdsf")
    assert told["wait"]["a"]["max"] == 4.0
    assert told["serving_share"] == pytest.approx(4 / 6)


def test_request_rejected_while_running_is_not_served_but_counts_as_busy_time() -> None:
    tally = Tally()
    tally.handled(RequestArrived(1, "a"), [], 0.0)
    tally.handled(WorkerReady(1, 1, 1, 1.0), [Dispatch("a", 1, (1,))], 1.0)
    tally.handled(TimerFired(), [Reject(1, REFUSED)], 3.0)
    tally.handled(RequestFinished(1, 1, 3.0, 1), [], 4.0)
    told = report(tally, "gdsf")
    assert (told["served"], told["rejected"], told["wait"], told["wait_all"]) == (0, {"queue_full": 1}, {}, None)
    assert tally.serving_seconds == 3.0


def test_report_of_an_empty_run_is_empty() -> None:
    told = report(Tally(), "gdsf")
    assert (told["requests"], told["seconds"], told["serving_share"]) == (0, 0.0, 0.0)


def test_quantiles_are_observed_values() -> None:
    assert quantiles([float(value) for value in range(100, 0, -1)]) == {"p50": 50, "p95": 95, "p99": 99, "max": 100}
    assert quantiles([3.0]) == {"p50": 3, "p95": 3, "p99": 3, "max": 3}
    assert quantiles([]) is None


def test_table_has_a_column_per_policy() -> None:
    other = {**story(), "policy": "lru"}
    lines = as_table([story(), other]).splitlines()
    assert lines[0].split() == ["gdsf", "lru"]
    assert "rejected: queue_full      1      1" in lines
    assert "share serving         25.0%  25.0%" in lines
    head, *rows = lines[lines.index("") + 1 :]
    assert head.split()[:4] == ["model", "requests", "gdsf:", "loads"]
    assert [row.split()[0] for row in rows] == ["b", "a"], "the busiest first"
    assert rows[1].split() == ["a", "2", "1", "1.00", "1.00", "1.00", "1.00", "1", "1.00", "1.00", "1.00", "1.00"]
