"""The core's one door: ``handle(event, now)`` in, commands out.

The decision tree, by the numbers used at the branches:
1  admission (``admission``), again for what is queued (``limits``)
2  dispatch to ready models (``dispatch``)
3  bring in, and evict for it (``residency``)
4  what time does: deadlines, run limits, keep_alive, the drain (``limits``)
5  background work gives way (``background``), in all of these
6  failures (``failures``)
7  what the owner asks for (``owner``)

No event makes it look at every model: what is derived is kept in ``SchedulerState``, and time has an ``Deadlines``.
"""

import heapq
from collections.abc import Sequence
from typing import assert_never

from cohabit.core.admin import handle_admin_request, unload_requested_models
from cohabit.core.admission import SHUTTING_DOWN, refuse
from cohabit.core.busy_periods import learn, peaked
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
from cohabit.core.queues import Request
from cohabit.core.state import Model, SchedulerState
from cohabit.core.swap import reclaim_overcommit, schedule_swaps
from cohabit.core.timeouts import cancel, drop, expire, plan
from cohabit.core.worker_events import measured, ready, slept, trimmed


class Controller:
    """Owns the state; exactly one task may call ``handle``. Deterministic: same events, same commands."""

    def __init__(self, models: Sequence[Model], ledger: Ledger, policy: Policy = Policy.GDSF) -> None:
        """Nothing is started before the first event."""
        self.state = SchedulerState(models, ledger)
        self._policy = policy
        self._timer: float | None = None
        self._halted = False

    def handle(self, event: Event, now: float) -> Sequence[Command]:
        """Take an event in, decide. ``now`` never goes back. Events about workers long gone are dropped."""
        state = self.state
        state.out = []
        charge(state, now)
        self._take(event, now)
        expire(state, now)
        unload_requested_models(state, now)
        reclaim_overcommit(state, self._policy, now)
        dispatch_all(state, now)
        schedule_swaps(state, self._policy, now)
        dispatch_all(state, now)
        plan(state, now)
        self._set_timer(now)
        if state.draining_until is not None and not state.workers and not state.requests:
            self._halt()
        return state.out

    def _take(self, event: Event, now: float) -> None:
        state = self.state
        match event:
            case Started():
                for model in state.models.values():
                    model.load_requested = model.policy.preload
                    state.changed(model)
            case RequestArrived():
                self._arrived(event, now)
            case RequestCancelled():
                self._cancelled(event, now)
            case RequestFinished():
                self._finished(event, now)
            case RequestFailed():
                if self._holds(event.worker, event.request):
                    request_failed(state, event, now)
            case WorkerReady():
                ready(state, event, now)
            case Slept():
                slept(state, event, now)
            case Trimmed():
                trimmed(state, event, now)
            case WorkerExited():
                if event.worker in state.workers:
                    worker_exited(state, event, now)
            case DeviceMeasured():
                measured(state, event, now)
            case DeviceUnreadable():
                state.unreadable = event.detail
                state.room_has_changed()
            case TimerFired():
                self._timer = None
            case ShutdownRequested():
                if state.draining_until is None:
                    state.draining_until = now + event.drain
                    self._shut(now)
            case LoadRequested() | SleepRequested() | UnloadRequested() | PinRequested():
                handle_admin_request(state, event, now)
            case _:
                assert_never(event)

    def _shut(self, now: float) -> None:
        """Nothing new. Background work outlives the server; who keeps it asks again after the next start."""
        state = self.state
        for model in state.models.values():
            model.load_requested, model.load_requested_at = False, None
            for request in list(model.queue.background):
                drop(state, model, request, SHUTTING_DOWN)
            state.changed(model)

    def _holds(self, worker: int, request: int) -> bool:
        return worker in self.state.workers and request in self.state.workers[worker].running

    def _arrived(self, event: RequestArrived, now: float) -> None:
        state = self.state
        rejection = refuse(state, event, now)
        if rejection is not None:
            state.out.append(Reject(event.request, rejection))
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
        model = state.models[event.model]
        state.requests[request.id] = request
        model.queue.push(request)
        if event.deadline is not None:
            heapq.heappush(model.deadlines, (event.deadline, request.id, request))
        state.changed(model)

    def _cancelled(self, event: RequestCancelled, now: float) -> None:
        state = self.state
        request = state.requests.get(event.request)
        if request is None:
            return
        request.ended = True
        model = state.models[request.model]
        if request.queued:
            model.queue.remove(request)
            del state.requests[request.id]
            state.changed(model)
        else:
            cancel(state, model, request, now)

    def _finished(self, event: RequestFinished, now: float) -> None:
        if not self._holds(event.worker, event.request):
            return
        state = self.state
        model = state.workers[event.worker]
        peaked(model, event.peak, now)
        withdraw(state, model, [event.request], now)
        request = state.requests.pop(event.request)
        request.ended = True
        if model.running:
            model.footprint.fade()
        else:
            learn(state, model, event.peak)
        model.failures = model.deaths = 0
        if request.cancelled is None:
            model.footprint.run_seconds.add(event.seconds)

    def _set_timer(self, now: float) -> None:
        state = self.state
        at = state.deadlines.next
        moments = [] if at is None else [at]
        if state.swap is None and state.next_try is not None:
            moments.append(state.next_try)
        if state.draining_until is not None and now < state.draining_until:
            moments.append(state.draining_until)
        nearest = min(moments, default=None)
        if nearest != self._timer:
            self._timer = nearest
            self.state.out.append(SetTimer(nearest))

    def _halt(self) -> None:
        if not self._halted:
            self._halted = True
            self.state.out.append(Halt())
