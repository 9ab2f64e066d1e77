"""What each model did and when, from events and commands alone; ``handled`` is an observer of any shell."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from cohabit.core.commands import Command, Dispatch, Reject, SleepWorker, StartWorker, StopWorker, WakeWorker
from cohabit.core.events import Event, RequestArrived, RequestFinished, Slept, WorkerExited, WorkerReady


class Doing(StrEnum):
    """What a model's worker does. Without one there is nothing to tell."""

    LOADING = "loading"
    WAKING = "waking"
    SERVING = "serving"
    IDLE = "idle"
    ASLEEP = "asleep"
    LEAVING = "leaving"  # falling asleep or ending


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when, in seconds."""

    begin: float
    end: float


@dataclass(slots=True)
class TimelineRow:
    """Of one model. ``waiting`` is when any request waited for it."""

    spans: dict[Doing, list[Span]] = field(default_factory=lambda: {doing: [] for doing in Doing})
    waiting: list[Span] = field(default_factory=list)
    doing: Doing | None = None
    since: float = 0.0
    waits: int = 0
    waits_since: float = 0.0

    def turn(self, doing: Doing | None, now: float) -> None:
        """Do something else from now on."""
        if doing is not self.doing:
            if self.doing is not None and now > self.since:
                self.spans[self.doing].append(Span(self.since, now))
            self.doing, self.since = doing, now

    def wait(self, more: int, now: float) -> None:
        """So many more requests wait, or less."""
        if self.waits == 0:
            self.waits_since = now
        self.waits += more
        if self.waits == 0 and now > self.waits_since:
            self.waiting.append(Span(self.waits_since, now))


class Timeline:
    """Of all models that were asked for."""

    def __init__(self) -> None:
        self.rows: dict[str, TimelineRow] = {}
        self.ended = 0.0
        self._waiting: dict[int, str] = {}
        self._running: dict[int, int] = {}
        self._given_up: set[int] = set()  # run on although they have been answered
        self._workers: dict[int, str] = {}

    def handled(self, event: Event, commands: Sequence[Command], now: float) -> None:
        """A ``control_loop.Observe``."""
        self.ended = now
        match event:
            case RequestArrived(request, model):
                self._waiting[request] = model
                self._row(model).wait(1, now)
            case RequestFinished(request, worker):
                self._running.pop(request, None)
                self._given_up.discard(request)
                if worker not in self._running.values() and self._of(worker).doing is Doing.SERVING:
                    self._of(worker).turn(Doing.IDLE, now)
            case WorkerReady(worker):
                self._of(worker).turn(Doing.IDLE, now)
            case Slept(worker):
                self._of(worker).turn(Doing.ASLEEP, now)
            case WorkerExited(worker):
                self._exited(worker, now)
            case _:
                pass
        for command in commands:
            self._on_command(command, now)

    def close(self) -> None:
        """Nothing more will happen: end what is under way."""
        for row in self.rows.values():
            row.turn(None, self.ended)
            row.wait(-row.waits, self.ended)

    def _row(self, model: str) -> TimelineRow:
        return self.rows.setdefault(model, TimelineRow())

    def _of(self, worker: int) -> TimelineRow:
        return self._row(self._workers[worker])

    def _exited(self, worker: int, now: float) -> None:
        self._of(worker).turn(None, now)
        for request in [request for request, on in self._running.items() if on == worker]:
            del self._running[request]
            if request not in self._given_up:  # else it is tried again
                self._waiting[request] = self._workers[worker]
                self._of(worker).wait(1, now)
        del self._workers[worker]

    def _on_command(self, command: Command, now: float) -> None:
        match command:
            case Dispatch(model, worker, requests):
                for request in requests:
                    del self._waiting[request]
                    self._running[request] = worker
                self._row(model).wait(-len(requests), now)
                self._row(model).turn(Doing.SERVING, now)
            case Reject(request):
                if request in self._waiting:
                    self._row(self._waiting.pop(request)).wait(-1, now)
                elif request in self._running:
                    self._given_up.add(request)
            case StartWorker(model, worker):
                self._workers[worker] = model
                self._row(model).turn(Doing.LOADING, now)
            case WakeWorker(model):
                self._row(model).turn(Doing.WAKING, now)
            case StopWorker(model) | SleepWorker(model):
                self._row(model).turn(Doing.LEAVING, now)
            case _:
                pass
