"""The core's one door: ``handle(event, now)`` in, commands out.

The decision tree, by the numbers used at the branches:
1  admission (``admission``), again for what is queued (``limits``)
2  dispatch to ready models (``dispatch``)
3  bring in, and evict for it (``residency``)
4  what time does: deadlines, run limits, keep_alive, the drain (``limits``)
5  background work gives way (``background``), in all of these
6  failures (``failures``)
7  what the owner asks for (``owner``)

No event makes it look at every model: what is derived is kept in ``Books``, and time has an ``Agenda``.
"""

import heapq
from collections.abc import Sequence
from typing import assert_never

from cohabit.core.admission import SHUTTING_DOWN, refuse
from cohabit.core.commands import Command, Halt, Reject, SetTimer
from cohabit.core.dispatch import charge, dispatch_all, withdraw
from cohabit.core.events import (
    DeviceMeasured,
    DeviceUnreadable,
    Event,
    LoadRequested,
    PinRequested,
    RequestArrived,
    RequestCancelled,
    RequestFailed,
    RequestFinished,
    ShutdownRequested,
    SleepRequested,
    Slept,
    Started,
    TimerFired,
    Trimmed,
    UnloadRequested,
    WorkerExited,
    WorkerReady,
)
from cohabit.core.eviction import Policy
from cohabit.core.failures import request_failed, worker_exited
from cohabit.core.ledger import Ledger
from cohabit.core.limits import cancel, drop, expire, plan
from cohabit.core.owner import follow, leave_as_told
from cohabit.core.progress import measured, ready, slept, trimmed
from cohabit.core.queues import Request
from cohabit.core.residency import bring_in, relieve
from cohabit.core.state import Books, Model
from cohabit.core.stretches import learn, peaked


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
        expire(books, now)
        leave_as_told(books, now)
        relieve(books, self._policy, now)
        dispatch_all(books, now)
        bring_in(books, self._policy, now)
        dispatch_all(books, now)
        plan(books, now)
        self._set_timer(now)
        if books.draining_until is not None and not books.workers and not books.requests:
            self._halt()
        return books.out

    def _take(self, event: Event, now: float) -> None:
        books = self.books
        match event:
            case Started():
                for model in books.models.values():
                    model.wanted = model.policy.preload
                    books.changed(model)
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
                ready(books, event, now)
            case Slept():
                slept(books, event, now)
            case Trimmed():
                trimmed(books, event, now)
            case WorkerExited():
                if event.worker in books.workers:
                    worker_exited(books, event, now)
            case DeviceMeasured():
                measured(books, event, now)
            case DeviceUnreadable():
                books.unreadable = event.detail
                books.room_has_changed()
            case TimerFired():
                self._timer = None
            case ShutdownRequested():
                if books.draining_until is None:
                    books.draining_until = now + event.drain
                    self._shut(now)
            case LoadRequested() | SleepRequested() | UnloadRequested() | PinRequested():
                follow(books, event, now)
            case _:
                assert_never(event)

    def _shut(self, now: float) -> None:
        """Nothing new. Background work outlives the server; who keeps it asks again after the next start."""
        books = self.books
        for model in books.models.values():
            model.wanted, model.wanted_since = False, None
            for request in list(model.queue.background):
                drop(books, model, request, SHUTTING_DOWN)
            books.changed(model)

    def _holds(self, worker: int, request: int) -> bool:
        return worker in self.books.workers and request in self.books.workers[worker].running

    def _arrived(self, event: RequestArrived, now: float) -> None:
        books = self.books
        rejection = refuse(books, event, now)
        if rejection is not None:
            books.out.append(Reject(event.request, rejection))
            return
        request = Request(
            event.request,
            event.model,
            event.client,
            now,
            event.deadline,
            event.batch,
            units=event.units,
            background=event.background,
            size=event.size,
        )
        model = books.models[event.model]
        books.requests[request.id] = request
        model.queue.push(request)
        if event.deadline is not None:
            heapq.heappush(model.deadlines, (event.deadline, request.id, request))
        books.changed(model)

    def _cancelled(self, event: RequestCancelled, now: float) -> None:
        books = self.books
        request = books.requests.get(event.request)
        if request is None:
            return
        request.ended = True
        model = books.models[request.model]
        if request.queued:
            model.queue.remove(request)
            del books.requests[request.id]
            books.changed(model)
        else:
            cancel(books, model, request, now)

    def _finished(self, event: RequestFinished, now: float) -> None:
        if not self._holds(event.worker, event.request):
            return
        books = self.books
        model = books.workers[event.worker]
        peaked(model, event.peak, now)
        withdraw(books, model, [event.request], now)
        request = books.requests.pop(event.request)
        request.ended = True
        if model.running:
            model.footprint.fade()
        else:
            learn(books, model, event.peak)
        model.failures = model.deaths = 0
        if request.cancelled is None:
            model.footprint.run_seconds.add(event.seconds)

    def _set_timer(self, now: float) -> None:
        books = self.books
        at = books.agenda.next
        moments = [] if at is None else [at]
        if books.claim is None and books.next_try is not None:
            moments.append(books.next_try)
        if books.draining_until is not None and now < books.draining_until:
            moments.append(books.draining_until)
        nearest = min(moments, default=None)
        if nearest != self._timer:
            self._timer = nearest
            self.books.out.append(SetTimer(nearest))

    def _halt(self) -> None:
        if not self._halted:
            self._halted = True
            self.books.out.append(Halt())
