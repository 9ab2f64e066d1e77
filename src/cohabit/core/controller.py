"""The core's one door: ``handle(event, now)`` in, commands out.

The decision tree, by the numbers used at the branches:
1  admission (``admission``), again for what is queued (``limits``)
2  dispatch to ready models (``dispatch``)
3  bring in, and evict for it (``residency``)
4  what time does: deadlines, run limits, keep_alive, the drain (``limits``)
5  failures (``failures``)
"""

from collections.abc import Sequence
from typing import assert_never

from cohabit.core.admission import refuse
from cohabit.core.commands import Command, Halt, Reject, SetTimer
from cohabit.core.dispatch import charge, dispatch_all, withdraw
from cohabit.core.events import (
    DeviceMeasured,
    Event,
    RequestArrived,
    RequestCancelled,
    RequestFailed,
    RequestFinished,
    ShutdownRequested,
    Slept,
    Started,
    TimerFired,
    Trimmed,
    WorkerExited,
    WorkerReady,
)
from cohabit.core.eviction import Policy
from cohabit.core.failures import request_failed, worker_exited
from cohabit.core.ledger import Ledger
from cohabit.core.lifecycle import Move, State
from cohabit.core.limits import cancel, expire
from cohabit.core.queues import Request
from cohabit.core.residency import bring_in, relieve
from cohabit.core.state import Books, Model


class Controller:
    """Owns the state; exactly one task may call ``handle``. Deterministic: same events, same commands."""

    def __init__(self, models: Sequence[Model], ledger: Ledger, policy: Policy = Policy.GDSF) -> None:
        """Nothing is started before the first event."""
        self.books = Books(models, ledger)
        self._policy = policy
        self._timer: float | None = None
        self._halted = False

    def handle(self, event: Event, now: float) -> Sequence[Command]:
        """Take an event in, decide. ``now`` never goes back. Events about workers long gone are dropped."""
        books = self.books
        books.out = []
        charge(books, now)
        self._take(event, now)
        moments = expire(books, now)
        relieve(books, self._policy, now)
        dispatch_all(books, now)
        later = bring_in(books, self._policy, now)
        dispatch_all(books, now)
        if books.out:
            moments = expire(books, now)  # what was given out has limits of its own
        self._set_timer([moment for moment in (*moments, *later) if moment > now])
        if books.draining_until is not None and not books.workers and not books.requests:
            self._halt()
        return books.out

    def _take(self, event: Event, now: float) -> None:
        books = self.books
        match event:
            case Started():
                for model in books.models.values():
                    model.wanted = model.policy.preload
            case RequestArrived():
                self._arrived(event, now)
            case RequestCancelled():
                self._cancelled(event, now)
            case RequestFinished():
                self._finished(event, now)
            case RequestFailed():
                if self._holds(event.worker, event.request):
                    request_failed(books, event, now)
            case WorkerReady():
                self._ready(event, now)
            case Slept() | Trimmed():
                raise NotImplementedError
            case WorkerExited():
                if event.worker in books.workers:
                    worker_exited(books, event, now)
            case DeviceMeasured():
                books.ledger.observe(event.at, event.total, event.available, event.workers)
            case TimerFired():
                self._timer = None
            case ShutdownRequested():
                if books.draining_until is None:
                    books.draining_until = now + event.drain
                    for model in books.models.values():
                        model.wanted = False
            case _:
                assert_never(event)

    def _holds(self, worker: int, request: int) -> bool:
        return worker in self.books.workers and request in self.books.workers[worker].running

    def _arrived(self, event: RequestArrived, now: float) -> None:
        books = self.books
        rejection = refuse(books, event, now)
        if rejection is not None:
            books.out.append(Reject(event.request, rejection))
            return
        request = Request(event.request, event.model, event.client, now, event.deadline, event.batch)
        books.requests[request.id] = request
        books.models[event.model].queue.push(request)

    def _cancelled(self, event: RequestCancelled, now: float) -> None:
        books = self.books
        request = books.requests.get(event.request)
        if request is None:
            return
        request.ended = True
        model = books.models[request.model]
        if request.dispatched is None:
            model.queue.remove(request)
            del books.requests[request.id]
        else:
            cancel(books, model, request, now)

    def _finished(self, event: RequestFinished, now: float) -> None:
        if not self._holds(event.worker, event.request):
            return
        books = self.books
        model = books.workers[event.worker]
        withdraw(books, model, [event.request], now)
        request = books.requests.pop(event.request)
        model.footprint.learn_run(event.peak)
        model.failures = 0
        if request.cancelled is None:
            model.footprint.run_seconds.add(event.seconds)

    def _ready(self, event: WorkerReady, now: float) -> None:
        books = self.books
        model = books.workers.get(event.worker)
        if model is None or model.state is not State.STARTING:
            return  # told to stop meanwhile
        model.lifecycle.move(Move.LOADED, now)
        model.footprint.learn_load(event.resident, event.load_peak, event.seconds)
        books.ledger.settle(event.worker, event.resident)
        model.loads += 1
        model.came_in = model.idle_since = model.last_used = now

    def _set_timer(self, moments: Sequence[float]) -> None:
        nearest = min(moments, default=None)
        if nearest != self._timer:
            self._timer = nearest
            self.books.out.append(SetTimer(nearest))

    def _halt(self) -> None:
        if not self._halted:
            self._halted = True
            self.books.out.append(Halt())
