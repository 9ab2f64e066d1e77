"""Counters from what happens, gauges from one snapshot."""

import re
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from cohabit.core.commands import (
    PrewarmWorker,
    Reject,
    Rejection,
    RejectReason,
    SleepWorker,
    StartWorker,
    StopCause,
    StopWorker,
    TrimWorker,
    WakeWorker,
)
from cohabit.core.events import RequestArrived, Slept, TimerFired, WorkerExited, WorkerReady
from cohabit.observability.metrics import Metrics
from cohabit.protocol.engine import ItemError
from cohabit.protocol.messages import Finished
from cohabit.protocol.tasks import Task


def values(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """By name and labels' values, in the order of the labels' names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_what_happens_is_counted() -> None:
    metrics = Metrics()
    full = Reject(2, Rejection(RejectReason.QUEUE_FULL, "full"))
    metrics.handled(RequestArrived(1, "a"), [StartWorker("a", 1)], 0)
    metrics.handled(RequestArrived(2, "a"), [full], 0)
    metrics.handled(WorkerReady(1, 1, 1, 0.5), [], 0)
    metrics.handled(TimerFired(), [StopWorker("a", 1, StopCause.EVICTED, "why")], 0)
    metrics.handled(WorkerExited(1, seconds=0.1), [StartWorker("a", 2)], 0)
    metrics.handled(WorkerExited(2, seconds=0), [PrewarmWorker("a", 3)], 0)
    metrics.handled(WorkerExited(2, seconds=0), [], 0)
    metrics.handled(WorkerExited(3, seconds=0), [], 0)
    found = values(metrics)
    assert found["cohabit_requests_total", "a"] == 1, "a request that was refused was not accepted"
    assert found["cohabit_rejections_total", "queue_full"] == 1
    assert found["cohabit_loads_total", "a"] == 1
    assert found["cohabit_load_seconds_sum", "a"] == 0.5
    assert found["cohabit_stops_total", "evicted", "a"] == 1
    assert found["cohabit_deaths_total", "a"] == 2, "one before it was told to load"


def test_sleeps_and_wakes_are_counted_apart_from_loads() -> None:
    metrics = Metrics()
    metrics.handled(TimerFired(), [StartWorker("a", 1)], 0)
    metrics.handled(WorkerReady(1, 1, 1, 2.0), [TrimWorker("a", 1, "why")], 0)
    metrics.handled(TimerFired(), [SleepWorker("a", 1, StopCause.EVICTED, "why")], 0)
    metrics.handled(Slept(1, 10, 0.25), [WakeWorker("a", 1)], 0)
    metrics.handled(WorkerReady(1, 1, 1, 0.5), [SleepWorker("a", 1, StopCause.KEEP_ALIVE, "why")], 0)
    metrics.handled(Slept(1, 10, 0.25), [WakeWorker("a", 1)], 0)
    metrics.handled(WorkerExited(1, seconds=0), [StartWorker("a", 2)], 0)  # it failed to wake
    metrics.handled(WorkerReady(2, 1, 1, 2.0), [], 0)
    found = values(metrics)
    assert found["cohabit_loads_total", "a"] == 2
    assert found["cohabit_load_seconds_sum", "a"] == 4.0
    assert found["cohabit_wakes_total", "a"] == 1
    assert found["cohabit_wake_seconds_sum", "a"] == 0.5
    assert found["cohabit_sleeps_total", "evicted", "a"] == 1
    assert found["cohabit_sleeps_total", "keep_alive", "a"] == 1
    assert (found["cohabit_sleep_seconds_count", "a"], found["cohabit_sleep_seconds_sum", "a"]) == (2, 0.5)
    assert found["cohabit_trims_total", "a"] == 1


def test_runs_are_counted_by_how_they_ended() -> None:
    metrics = Metrics()

    def finished(**more: Any) -> Finished:
        return Finished(1, Task.CHAT, 0.25, 1, 1, **more)

    metrics.answered("a", finished(tokens=5))
    metrics.answered("a", finished(tokens=3, overrun=2, cancelled=True))
    metrics.answered("a", finished(error=ItemError(1, "no")))
    found = values(metrics)
    assert {
        outcome: found["cohabit_finished_total", "a", outcome, "chat"] for outcome in ("ok", "cancelled", "error")
    } == {
        "ok": 1,
        "cancelled": 1,
        "error": 1,
    }
    assert found["cohabit_tokens_total", "a"] == 8
    assert found["cohabit_overrun_tokens_total", "a"] == 2
    assert found["cohabit_run_seconds_count", "a", "chat"] == 3


def watched() -> tuple[Metrics, dict[str, Any]]:
    """With the gauges of one model; and the device that they read."""
    metrics = Metrics()
    model = {
        "name": "a",
        "state": "ready",
        "device": "cpu",
        "reserved": 7,
        "load": 0,
        "idle": 5,
        "activation": 2,
        "footprint": {"idle": {"bytes": 5}, "inference": {"bytes": 8}},
        "cached": 0,
        "host_copy": 4,
        "waiting": 3,
        "in_flight": 1,
        "overruns": 6,
    }
    device = {"name": "cpu", "budget": 10, "effective_budget": 9, "reserved": 7, "headroom": 2, "foreign": 1}
    device |= {"host_cache": 20, "host_copies": 4, "slots_used": 1, "compute_slots": 2}
    alert = {"code": "over_budget", "severity": "warning", "model": "", "text": "too much"}
    metrics.watch(lambda: {"devices": [device], "models": [model], "alerts": [alert]}, {"sampler": 2})
    return metrics, device


def test_every_metric_is_in_the_docs() -> None:
    told = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    table = told.partition("## Metrics")[2].partition("\n## ")[0]
    counted = {"counter": "_total"}
    metrics, _ = watched()
    there = {family.name + counted.get(family.type, "") for family in metrics.registry.collect()}
    assert set(re.findall(r"`(cohabit_\w+)`", table)) == there


def test_every_alert_is_in_the_docs() -> None:
    root = Path(__file__).parents[2]
    page = (root / "docs" / "operations.md").read_text()
    table = page.partition("## Alerts")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| `(\w+)` \| (critical|warning) ", table, re.MULTILINE))
    source = "".join(path.read_text() for path in (root / "src").rglob("*.py"))
    raised = re.findall(r'Alert\(\s*"(\w+)",\s*Severity\.(\w+)', source)
    assert told == {(code, severity.lower()) for code, severity in raised}


def test_gauges_are_read_when_asked() -> None:
    metrics, device = watched()
    found = values(metrics)
    assert found["cohabit_device_bytes", "effective_budget", "cpu"] == 9
    assert found["cohabit_model_bytes", "reserved", "cpu", "a"] == 7
    assert found["cohabit_model_bytes", "host_copy", "cpu", "a"] == 4
    assert (found["cohabit_host_bytes", "cache", "cpu"], found["cohabit_host_bytes", "copies", "cpu"]) == (20, 4)
    assert found["cohabit_model_requests", "a", "waiting"] == 3
    assert found["cohabit_model_state", "a", "ready"] == 1
    assert found["cohabit_overruns_total", "a"] == 6
    assert found["cohabit_compute_slots", "cpu", "used"] == 1
    assert found["cohabit_model_footprint_bytes", "cpu", "a", "inference"] == 8
    assert found["cohabit_alert", "over_budget", "", "warning"] == 1
    assert found["cohabit_task_restarts_total", "sampler"] == 2
    device["reserved"] = 8
    assert values(metrics)["cohabit_device_bytes", "reserved", "cpu"] == 8
