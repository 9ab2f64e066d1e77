"""Counts what happens, from events and commands alone; ``handled`` is an observer of any shell."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from cohabit.core.commands import Command, Dispatch, Reject, SleepWorker, StartWorker, StopWorker, WakeWorker
from cohabit.core.events import Event, RequestArrived, RequestFinished, WorkerExited, WorkerReady


@dataclass(slots=True)
class ModelTally:
    """Of one model. ``waits`` are the seconds from arrival to dispatch of every interactive request served."""

    requests: int = 0
    waits: list[float] = field(default_factory=list)
    background_waits: list[float] = field(default_factory=list)
    loads: int = 0
    load_seconds: float = 0.0
    wakes: int = 0
    wake_seconds: float = 0.0
    run_seconds: float = 0.0
    evictions: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class _Open:
    model: str
    arrived: float
    background: bool
    dispatched: float = 0.0


class Tally:
    """Of all models. ``serving_seconds`` is the time during which at least one request ran."""

    def __init__(self) -> None:
        self.models: defaultdict[str, ModelTally] = defaultdict(ModelTally)
        self.began: float | None = None  # the first request arrived
        self.ended = 0.0  # the last one ended
        self.serving_seconds = 0.0
        self._open: dict[int, _Open] = {}
        self._running: dict[int, int] = {}  # the worker of every request that runs, wanted or not
        self._serving_since = 0.0
        self._coming: dict[int, tuple[str, float, bool]] = {}  # workers that load or wake

    def handled(self, event: Event, commands: Sequence[Command], now: float) -> None:
        """A ``control_loop.Observe``."""
        was_serving = bool(self._running)
        match event:
            case RequestArrived(request, model):
                self.models[model].requests += 1
                self._open[request] = _Open(model, now, event.background)
                if self.began is None:
                    self.began = now
            case RequestFinished():
                self._finished(event, now)
            case WorkerReady(worker):
                self._came(worker, now)
            case WorkerExited(worker):
                self._came(worker, now)
                self._running = {request: on for request, on in self._running.items() if on != worker}
            case _:
                pass
        for command in commands:
            self._on_command(command, now)
        if was_serving and not self._running:
            self.serving_seconds += now - self._serving_since
        elif not was_serving and self._running:
            self._serving_since = now

    def _on_command(self, command: Command, now: float) -> None:
        match command:
            case Dispatch(_, worker, requests):
                for request in requests:
                    self._running[request] = worker
                    self._open[request].dispatched = now
            case Reject(request, rejection):
                rejected = self._open.pop(request)
                self.models[rejected.model].rejected[rejection.reason.value] += 1
                self.ended = now
            case StartWorker(model, worker):
                self.models[model].loads += 1
                self._coming[worker] = (model, now, False)
            case WakeWorker(model, worker):
                self.models[model].wakes += 1
                self._coming[worker] = (model, now, True)
            case StopWorker(model, worker, cause) | SleepWorker(model, worker, cause):
                self.models[model].evictions[cause.value] += 1
                self._came(worker, now)
            case _:
                pass

    def _finished(self, event: RequestFinished, now: float) -> None:
        self._running.pop(event.request, None)
        served = self._open.pop(event.request, None)
        if served is not None:
            tally = self.models[served.model]
            waits = tally.background_waits if served.background else tally.waits
            waits.append(served.dispatched - served.arrived)
            tally.run_seconds += event.seconds
            self.ended = now

    def _came(self, worker: int, now: float) -> None:
        if worker in self._coming:
            model, since, woke = self._coming.pop(worker)
            if woke:
                self.models[model].wake_seconds += now - since
            else:
                self.models[model].load_seconds += now - since
