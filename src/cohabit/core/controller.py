"""The core's only entrance: ``handle(event, now)`` in, commands out.

The decision tree, by the numbers used at the branches:
1  admission (``admission``), again for what is queued (``timeouts``)
2  dispatch to ready models (``dispatch``)
3  load models, and evict others for them (``swap``, ``preemption``)
4  what time does: deadlines, run limits, keep_alive, the drain (``timeouts``)
5  background work is best effort (``dispatch``), in all of these
6  failures (``worker_events``)
7  what the operator asks for (``admin``)

No event makes it look at every model: ``SchedulerState`` has indexes, and ``Deadlines`` what is due.
"""

from collections.abc import Sequence
from typing import assert_never

from cohabit.core.admin import handle_admin_request, unload_idle
from cohabit.core.admission import SHUTTING_DOWN, refuse
from cohabit.core.commands import Command, Halt, Reject, SetTimer
from cohabit.core.dispatch import charge, dispatch_all
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
from cohabit.core.ledger import Ledger
from cohabit.core.model_state import Model
from cohabit.core.queues import Request
from cohabit.core.state import SchedulerState
from cohabit.core.swap import reclaim_overcommit, schedule_swaps
from cohabit.core.timeouts import cancel, drop, expire, plan
from cohabit.core.worker_events import (
    measured,
    ready,
    request_failed,
    request_finished,
    slept,
    trimmed,
    worker_exited,
)


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
        unload_idle(state, now)
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
                    if model.policy.preload:
                        state.load_wanted(model, None)
            case RequestArrived():
                self._arrived(event, now)
            case RequestCancelled():
                self._cancelled(event, now)
            case RequestFinished():
                if self._holds(event.worker, event.request):
                    request_finished(state, event, now)
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
                state.device_lost(event.detail)
            case TimerFired():
                self._timer = None
            case ShutdownRequested():
                if state.draining_until is None:
                    state.drain(now + event.drain)
                    self._refuse_background()
            case LoadRequested() | SleepRequested() | UnloadRequested() | PinRequested():
                handle_admin_request(state, event, now)
            case _:
                assert_never(event)

    def _refuse_background(self) -> None:
        """Background work outlives the server: whoever keeps it asks again after the next start."""
        state = self.state
        for model in state.models.values():
            state.load_unwanted(model)
            for request in list(model.queue.background):
                drop(state, request, SHUTTING_DOWN)

    def _holds(self, worker: int, request: int) -> bool:
        return worker in self.state.workers and request in self.state.workers[worker].run.requests

    def _arrived(self, event: RequestArrived, now: float) -> None:
        state = self.state
        rejection = refuse(state, event, now)
        if rejection is not None:
            state.emit(Reject(event.request, rejection))
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
        state.enqueue(request)

    def _cancelled(self, event: RequestCancelled, now: float) -> None:
        state = self.state
        request = state.requests.get(event.request)
        if request is None:
            return
        if request.queued:
            state.dequeue(request)
        else:
            state.end(request)
            cancel(state, request, now)

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
            self.state.emit(SetTimer(nearest))

    def _halt(self) -> None:
        if not self._halted:
            self._halted = True
            self.state.emit(Halt())
