"""Branch 4 of the decision tree, what time does: deadlines, run limits, keep_alive, infeasible queues, the end of a
drain.

A model is looked at when its next moment has come (``expire``), and its next moment is worked out anew whenever
anything about it has changed (``plan``).
"""

import heapq
import math
from collections.abc import Iterator
from itertools import islice

from cohabit.core.admission import SHUTTING_DOWN, failed, never_fitting, past_deadline, unreadable
from cohabit.core.commands import Cancel, Reject, Rejection, RejectReason, StopCause
from cohabit.core.dispatch import starved_at, urgent_at
from cohabit.core.fit import awaits_device, infeasible
from cohabit.core.lifecycle import State
from cohabit.core.model_state import Model
from cohabit.core.queues import Request
from cohabit.core.state import SchedulerState
from cohabit.core.swap import sleep, stop

CANCEL_GRACE = 30.0  # seconds a worker has to act on a cancel before it counts as hung
MAX_AT_ONCE = 250
"""Waiting requests that one event ends. The rest have their turn at once, but between two events the shell does
something else: thousands that end in one step would hold up all others."""


def reject(state: SchedulerState, request: Request, rejection: Rejection) -> None:
    """End a request that waits, or one whose worker has already given it up."""
    state.end(request)
    state.emit(Reject(request.id, rejection))


def drop(state: SchedulerState, request: Request, rejection: Rejection) -> None:
    """Take a waiting request out of its queue and end it."""
    state.dequeue(request)
    reject(state, request, rejection)


def cancel(state: SchedulerState, request: Request, now: float) -> None:
    """Tell the worker to stop a running request, once."""
    if request.cancelled is None:
        worker = state.models[request.model].worker
        assert worker is not None
        state.cancel_sent(request, now)
        state.emit(Cancel(request.id, worker))


def expire(state: SchedulerState, now: float) -> None:
    """Everything whose time has come."""
    for model in state.due(now):
        _deadlines(state, model, now)
        _runs(state, model, now)
        _infeasible(state, model, now)
        reject_failed(state, model, now)
        _keep_alive(state, model, now)
        if _forgotten(model) and now >= urgent_at(model):
            state.set_urgent(model, urgent=True)
        if _overlooked(state, model) and now >= starved_at(model):
            state.starve(model)
    if state.draining_until is not None:
        _drain(state, now)


def plan(state: SchedulerState, now: float) -> None:
    """The next moment of every model that something has happened to."""
    if state.unreadable is not None:
        state.room_changed()  # what others take now may be seen free only once the device is read again
    for model in state.changed():
        _note_infeasible(state, model, now)
        state.deadlines.set(model.name, min((at for at in _moments(state, model, now) if at > now), default=None))


def _moments(state: SchedulerState, model: Model, now: float) -> Iterator[float]:
    soon = math.nextafter(now, math.inf)  # what is due already, and was not yet when this event was looked at
    if model.deadlines and (at := _nearest_deadline(model)) is not None:
        yield max(soon, at)
    if _given_up(model, now):
        yield soon
    first: Request | None = None  # they stand in the order in which they were dispatched, so it is due first
    for request in model.run.requests.values():
        if request.cancelled is not None:
            yield request.cancelled + CANCEL_GRACE
        elif first is None:
            first = request
    if first is not None:
        assert first.dispatched is not None
        yield first.dispatched + model.policy.max_run
    if model.infeasible_since is not None:
        yield max(soon, model.infeasible_since + model.policy.max_wait)
    if (at := _keep_alive_until(model)) is not None:
        yield at
    if (model.health.failures or model.health.deaths) and (model.queue or model.load_requested):
        yield model.health.not_before
    if _forgotten(model):
        yield max(soon, urgent_at(model))
    if _overlooked(state, model):
        yield max(soon, starved_at(model))


def _overlooked(state: SchedulerState, model: Model) -> bool:
    """Whether it could be given work and is given none: branch 2.4 may come to apply."""
    return (
        model.policy.name in state.runnable
        and not model.run.requests
        and not model.starved
        and not model.queue.best_effort
    )


def _forgotten(model: Model) -> bool:
    """Whether branch 5.3 may come to apply."""
    return model.queue.background.count > 0 and not model.queue.urgent


def _nearest_deadline(model: Model) -> float | None:
    while model.deadlines and model.deadlines[0][2].ended:
        heapq.heappop(model.deadlines)
    return model.deadlines[0][0] if model.deadlines else None


def _deadlines(state: SchedulerState, model: Model, now: float) -> None:
    for _ in range(MAX_AT_ONCE):
        at = _nearest_deadline(model)
        if at is None or at > now:
            return
        request = heapq.heappop(model.deadlines)[2]
        if request.queued:
            drop(state, request, past_deadline(model.name))
        else:
            reject(state, request, past_deadline(model.name))
            cancel(state, request, now)


def _runs(state: SchedulerState, model: Model, now: float) -> None:
    for request in list(model.run.requests.values()):
        assert request.dispatched is not None
        if request.cancelled is None and now >= request.dispatched + model.policy.max_run:
            if not request.ended:
                detail = f"{model.name} ran for {model.policy.max_run:g} s, the most a request may (max_run)"
                reject(state, request, Rejection(RejectReason.MAX_RUN, detail))
            cancel(state, request, now)
        elif request.cancelled is not None and now >= request.cancelled + CANCEL_GRACE and model.state is State.READY:
            why = f"a cancelled request still runs after {CANCEL_GRACE:g} s"
            stop(state, model, StopCause.HUNG, why, now, kill=True)


def _note_infeasible(state: SchedulerState, model: Model, now: float) -> None:
    """Branch 1 again for what is queued."""
    if not model.queue or model.run.requests or not (infeasible(state, model) or awaits_device(state, model)):
        model.infeasible_since = None
    elif model.infeasible_since is None:
        model.infeasible_since = now


def _infeasible(state: SchedulerState, model: Model, now: float) -> None:
    """Reject a queue that could not be served for ``max_wait``."""
    _note_infeasible(state, model, now)
    if model.infeasible_since is not None and now >= model.infeasible_since + model.policy.max_wait:
        why = never_fitting(state, model) if infeasible(state, model) else unreadable(model)
        _drop_first(state, model, why)


def reject_failed(state: SchedulerState, model: Model, now: float) -> None:
    """Reject the queue of a failed model."""
    if _given_up(model, now):
        _drop_first(state, model, failed(model, now))


def _given_up(model: Model, now: float) -> bool:
    return model.state is State.FAILED and now < model.health.not_before and bool(model.queue)


def _drop_first(state: SchedulerState, model: Model, rejection: Rejection) -> None:
    for request in list(islice(model.queue, MAX_AT_ONCE)):
        drop(state, request, rejection)


def _keep_alive_until(model: Model) -> float | None:
    keep_alive = model.policy.keep_alive
    if keep_alive is None or model.policy.pin or model.queue or model.run.requests:
        return None
    if model.state is State.READY and not model.draining:
        return model.usage.idle_since + keep_alive
    return model.lifecycle.since + keep_alive if model.state is State.SLEEPING else None


def _keep_alive(state: SchedulerState, model: Model, now: float) -> None:
    """A model that was idle for ``keep_alive`` is put to sleep, then stopped."""
    until = _keep_alive_until(model)
    if until is None or now < until or state.account(model).trimming:
        return
    why = f"idle for {model.policy.keep_alive:g} s (keep_alive)"
    if model.state is State.READY and state.can_sleep(model):
        sleep(state, model, StopCause.KEEP_ALIVE, why, now)
    else:
        stop(state, model, StopCause.KEEP_ALIVE, why, now)


def _drain(state: SchedulerState, now: float) -> None:
    """Shutting down: what was accepted may finish until the drain ends."""
    assert state.draining_until is not None
    if now < state.draining_until:
        if state.requests:
            return
    else:
        for request in list(state.requests.values()):
            if request.queued:
                drop(state, request, SHUTTING_DOWN)
            elif not request.ended:
                reject(state, request, SHUTTING_DOWN)
    for model in list(state.workers.values()):
        if model.state is not State.STOPPING:
            stop(state, model, StopCause.SHUTDOWN, "the server is shutting down", now, kill=model.busy)
