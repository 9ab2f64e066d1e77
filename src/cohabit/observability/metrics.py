"""Prometheus metrics, prefix ``cohabit_``: counters from what happens, gauges read when asked."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from cohabit.core.commands import (
    Command,
    PrewarmWorker,
    Reject,
    SleepWorker,
    StartWorker,
    StopWorker,
    TrimWorker,
    WakeWorker,
)
from cohabit.core.events import Event, RequestArrived, Slept, WorkerExited, WorkerReady
from cohabit.protocol.messages import Finished

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """One registry for one server."""

    def __init__(self) -> None:
        """Counters begin at zero."""
        self.registry = CollectorRegistry()
        self._requests = Counter("cohabit_requests", "Requests accepted, by model", ["model"], registry=self.registry)
        self._rejections = Counter(
            "cohabit_rejections", "Requests ended without an answer, by reason", ["reason"], registry=self.registry
        )
        self._finished = Counter(
            "cohabit_finished", "Requests whose run ended", ["model", "task", "outcome"], registry=self.registry
        )
        self._run = Histogram(
            "cohabit_run_seconds", "Time on the worker", ["model", "task"], buckets=_SECONDS, registry=self.registry
        )
        self._tokens = Counter("cohabit_tokens", "Tokens generated", ["model"], registry=self.registry)
        self._overrun = Counter(
            "cohabit_overrun_tokens",
            "Tokens generated after the worker was told that their client is gone",
            ["model"],
            registry=self.registry,
        )
        self._loads = Counter("cohabit_loads", "Loads that ended well", ["model"], registry=self.registry)
        self._load = Histogram(
            "cohabit_load_seconds", "Time to bring a model in", ["model"], buckets=_SECONDS, registry=self.registry
        )
        self._sleeps = Counter(
            "cohabit_sleeps", "Models put to sleep, by cause", ["model", "cause"], registry=self.registry
        )
        self._sleep = Histogram(
            "cohabit_sleep_seconds", "Time to fall asleep", ["model"], buckets=_SECONDS, registry=self.registry
        )
        self._wakes = Counter("cohabit_wakes", "Wakes that ended well", ["model"], registry=self.registry)
        self._wake = Histogram(
            "cohabit_wake_seconds", "Time to wake a model", ["model"], buckets=_SECONDS, registry=self.registry
        )
        self._trims = Counter("cohabit_trims", "Idle workers trimmed", ["model"], registry=self.registry)
        self._stops = Counter(
            "cohabit_stops", "Workers stopped, by cause", ["model", "cause"], registry=self.registry
        )
        self._deaths = Counter("cohabit_deaths", "Workers that ended unasked", ["model"], registry=self.registry)
        # Looked up for every request; ``labels`` makes a tuple of strings and takes a lock each time.
        self._accepted = cache(self._requests.labels)
        self._ended = cache(self._finished.labels)
        self._ran = cache(self._run.labels)
        self._names: dict[int, str] = {}
        self._waking: set[int] = set()

    def handled(self, event: Event, commands: Sequence[Command], _now: float) -> None:
        """A ``control_loop.Observe``: count what the core was told and decided."""
        match event:
            case RequestArrived(request, model):
                if not any(isinstance(command, Reject) and command.request == request for command in commands):
                    self._accepted(model).inc()
            case WorkerReady(worker, _, _, seconds) if worker in self._names:
                self._ready(worker, seconds)
            case Slept(worker, _, seconds) if worker in self._names:
                self._sleep.labels(self._names[worker]).observe(seconds)
            case WorkerExited(worker) if worker in self._names:
                name = self._names.pop(worker)
                self._waking.discard(worker)
                if event.seconds == 0:
                    self._deaths.labels(name).inc()
            case _:
                pass
        for command in commands:
            match command:
                case PrewarmWorker(model, worker) | StartWorker(model, worker):
                    self._names[worker] = model
                case StopWorker(model, _, cause):
                    self._stops.labels(model, cause).inc()
                case SleepWorker(model, _, cause):
                    self._sleeps.labels(model, cause).inc()
                case WakeWorker(_, worker):
                    self._waking.add(worker)
                case TrimWorker(model):
                    self._trims.labels(model).inc()
                case Reject(_, rejection):
                    self._rejections.labels(rejection.reason).inc()
                case _:
                    pass

    def _ready(self, worker: int, seconds: float) -> None:
        name = self._names[worker]
        woken = worker in self._waking
        self._waking.discard(worker)
        (self._wakes if woken else self._loads).labels(name).inc()
        (self._wake if woken else self._load).labels(name).observe(seconds)

    def answered(self, model: str, finished: Finished) -> None:
        """An ``inflight.Watcher``: a worker is done with a request."""
        outcome = "cancelled" if finished.cancelled else "error" if finished.error is not None else "ok"
        self._ended(model, finished.task, outcome).inc()
        self._ran(model, finished.task).observe(finished.seconds)
        if finished.tokens:
            self._tokens.labels(model).inc(finished.tokens)
        if finished.overrun:
            self._overrun.labels(model).inc(finished.overrun)

    def watch(self, status: Callable[[], dict[str, Any]], restarts: Mapping[str, int]) -> None:
        """Let gauges be read from the core's snapshot, and the count of each task's restarts."""
        self.registry.register(_Gauges(status, restarts))

    def render(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self.registry)


class _Gauges(Collector):
    """What is true now, read from one snapshot a scrape."""

    def __init__(self, status: Callable[[], dict[str, Any]], restarts: Mapping[str, int]) -> None:
        self._status = status
        self._restarts = restarts
        self._started = time.time()

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        state = self._status()
        memory = GaugeMetricFamily(
            "cohabit_device_bytes", "Memory of the device, by account", labels=["device", "account"]
        )
        host = GaugeMetricFamily(
            "cohabit_host_bytes", "Host memory for copies of weights, by account", labels=["device", "account"]
        )
        slots = GaugeMetricFamily("cohabit_compute_slots", "Compute slots of the device", labels=["device", "state"])
        for device in state["devices"]:
            for account in ("budget", "effective_budget", "reserved", "headroom", "foreign"):
                memory.add_metric([device["name"], account], device[account])
            host.add_metric([device["name"], "cache"], device["host_cache"])
            host.add_metric([device["name"], "copies"], device["host_copies"])
            slots.add_metric([device["name"], "used"], device["slots_used"])
            slots.add_metric([device["name"], "all"], device["compute_slots"])
        yield memory
        yield host
        yield slots
        held = GaugeMetricFamily(
            "cohabit_model_bytes", "Memory reserved, by model and account", labels=["device", "model", "account"]
        )
        footprints = GaugeMetricFamily(
            "cohabit_model_footprint_bytes",
            "Memory that it needs, by phase",
            labels=["device", "model", "phase"],
        )
        requests = GaugeMetricFamily("cohabit_model_requests", "Requests now, by model", labels=["model", "state"])
        overruns = CounterMetricFamily(
            "cohabit_overruns", "How often a model's worker held more than was reserved for it", labels=["model"]
        )
        up = GaugeMetricFamily("cohabit_model_state", "1 for the state a model is in", labels=["model", "state"])
        for model in state["models"]:
            for account in ("reserved", "load", "idle", "activation", "cached", "host_copy"):
                held.add_metric([model["device"], model["name"], account], model[account])
            for phase, figure in model["footprint"].items():
                footprints.add_metric([model["device"], model["name"], phase], figure["bytes"])
            requests.add_metric([model["name"], "waiting"], model["waiting"])
            requests.add_metric([model["name"], "in_flight"], model["in_flight"])
            up.add_metric([model["name"], model["state"]], 1)
            overruns.add_metric([model["name"]], model["overruns"])
        yield held
        yield footprints
        yield requests
        yield up
        yield overruns
        alerts = GaugeMetricFamily(
            "cohabit_alert", "1 while an alert of /admin/status is raised", labels=["code", "severity", "model"]
        )
        for code, severity, name in {(a["code"], a["severity"], a["model"]) for a in state["alerts"]}:
            alerts.add_metric([code, severity, name], 1)
        yield alerts
        restarts = CounterMetricFamily(
            "cohabit_task_restarts", "How often a task of the server failed and was started again", labels=["task"]
        )
        for task, count in self._restarts.items():
            restarts.add_metric([task], count)
        yield restarts
        yield GaugeMetricFamily("cohabit_start_time_seconds", "Unix time of the start", value=self._started)
