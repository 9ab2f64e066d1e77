"""Branch 2 of the decision tree: who is given work.

2.1  Deficit round robin over device-seconds, weighted by priority (Shreedhar and Varghese, SIGCOMM 1995). A model is
     charged for the time during which anything of it is in flight, once, however many requests its engine runs
     together. Who has spent its quantum gets no new dispatch while another could be dispatched. Debts persist;
     credit is dropped when a queue empties. Who could be, if idle ones gave back what their runs left, is waited for.
2.2  Not all that runs may be long: where everything in flight is predicted to take over LONG seconds, the last free
     slot is left to something short, as long as a model that is in has short runs.
2.3  An engine that always has something in flight would never give its slots back. It yields when another model has
     waited for slots ``patience`` times as long as one of its runs takes, by their priorities.
2.4  Who has been given nothing for ``max_wait`` because slots or bytes were always taken is exempt from 2.2, and
     overtaken by nobody any more.
"""

import math
from collections.abc import Iterable, Sequence

from cohabit.core.background import given
from cohabit.core.batching import form_batch, units_of
from cohabit.core.busy_periods import BusyPeriod
from cohabit.core.commands import Dispatch
from cohabit.core.fit import extra_now, fits_now, freed_bytes, leaves_room_for_swap, next_units
from cohabit.core.lifecycle import State
from cohabit.core.state import Model, Reclaim, SchedulerState

SLOT = "a compute slot"
LAST_SLOT = "a compute slot, since the last one is kept for something short"
MEMORY = "working memory"
_TAKEN = frozenset({SLOT, LAST_SLOT, MEMORY})
QUANTUM = 0.1  # device-seconds a round for priority 1
LONG = 2.0  # seconds


def charge(state: SchedulerState, now: float) -> None:
    """Charge every busy model for the time since it was last charged. Background work is nobody's debt."""
    for model in state.busy.values():
        if model.interactive:
            model.deficit -= now - model.charged_until
        model.charged_until = now


def blocked_by(state: SchedulerState, model: Model, now: float) -> str | None:
    """What keeps a ready model with waiting requests from being given one now; None if nothing does."""
    if model.draining:
        return "the model to be brought back after it has made room for another"
    if model.unload_requested is not None:
        return "the model to be brought back after it has left as it was told to"
    account = state.account(model)
    if account.trimming:
        return "its caches to be given back"
    places, taken = model.policy.concurrency, len(model.batches)
    if taken >= places or (taken and taken == places - 1 and model.queue.best_effort):  # branch 5.1
        return "a request of this model to finish"
    if model.running and (model.queue.peek().retried or any(r.retried for r in model.running.values())):
        return "its turn to run alone, since its first run failed"
    if model.running:
        if _should_yield(state, model, now):
            return "its turn, after others that wait for its slots"
        extra = 0
        if not fits_now(state, 0):
            return "the memory in use to fall below the budget"
    else:
        if state.ledger.slots_used + model.policy.slots > state.ledger.slots:
            return SLOT
        if not model.starved and _all_long(state, model):
            return LAST_SLOT
        extra = extra_now(state, model, next_units(model))
        if not fits_now(state, extra):
            return MEMORY
    if not leaves_room_for_swap(state, model, extra):
        return "room that is being made for another model"
    return None


def _all_long(state: SchedulerState, model: Model) -> bool:
    """Branch 2.2: whether with this model all slots would be taken, and all by something long."""
    if not state.busy or state.ledger.slots_used + model.policy.slots < state.ledger.slots:
        return False
    if not _long(model) or not all(_long(other) for other in state.busy.values()):
        return False
    return any(other.lifecycle.state is State.READY and not _long(other) for other in state.workers.values())


def _long(model: Model) -> bool:
    return model.footprint.run_seconds.value > LONG


def _should_yield(state: SchedulerState, model: Model, now: float) -> bool:
    """Branch 2.3."""
    free = state.ledger.slots - state.ledger.slots_used
    patience = 0.0 if model.queue.best_effort else model.policy.patience
    hold = patience * model.footprint.run_seconds.value * model.policy.priority
    return any(
        not other.running
        and not other.queue.best_effort
        and free < other.policy.slots <= free + model.policy.slots
        and now - ready_since(other) >= hold / other.policy.priority
        for other in state.runnable.values()
    )


def ready_since(model: Model) -> float:
    """Since when a ready model has been given nothing though something waits."""
    return max(model.queue_waiting_since, model.last_used)


def starved_at(model: Model) -> float:
    """Branch 2.4: when a model that is ready, idle and has work may be overtaken no more."""
    return ready_since(model) + model.policy.max_wait


def mark_starved(state: SchedulerState, model: Model) -> None:
    """Branch 2.4: from now on nobody overtakes it."""
    model.starved = True
    state.starved[model.policy.name] = model


def dispatch_all(state: SchedulerState, now: float) -> None:
    """Give out everything that can be given out."""
    while state.runnable:
        # While the device cannot be read, what somebody lacks may never come free: nobody waits for it.
        starved = state.starved.values() if state.unreadable is None else ()
        if any(blocked_by(state, model, now) in _TAKEN for model in starved):
            return
        model = _turn(state, now)
        if model is None:
            return
        _dispatch(state, model, now)


def _turn(state: SchedulerState, now: float) -> Model | None:
    """Whose quantum lasts; if nobody's does, as many rounds pass as it takes until one does.

    Branch 5.1: background work if nothing interactive could be given anything, nor lacks slots or memory for it.
    """
    candidates, deferring, short = [], [], []
    lacking = False
    full = state.ledger.slots_used >= state.ledger.slots
    for model in state.runnable.values():
        why = SLOT if full and not model.running else blocked_by(state, model, now)
        if why is not None:
            lacking = lacking or (why in _TAKEN and not model.queue.best_effort)
            if why is MEMORY and not model.queue.best_effort:
                short.append(model)
        elif model.queue.best_effort:
            deferring.append(model)
        elif model.deficit > 0:
            break
        else:
            candidates.append(model)
    else:
        if not candidates:
            return None if lacking or not deferring else min(deferring, key=_given)
        rounds = min(map(_rounds, candidates))
        if _can_be_freed(state, [model for model in short if _rounds(model) <= rounds]):
            return None
        model = min(candidates, key=_rounds)
        for candidate in candidates:
            candidate.deficit += rounds * QUANTUM * candidate.policy.priority
    # Its turn lasts until its quantum is spent, then the ring goes on behind it: those before it come last.
    while (name := next(iter(state.runnable))) != model.policy.name:
        state.runnable[name] = state.runnable.pop(name)
    return model


def _can_be_freed(state: SchedulerState, short: Sequence[Model]) -> bool:
    """Whether any of those that lack memory could run if idle workers gave back what their last runs left, or a
    reading showed that they have. While a claim is pending nobody is asked to."""
    if not short or state.swap is not None or state.unreadable is not None:
        return False
    kept = sum(
        freed_bytes(state, worker, Reclaim.TRIM)
        for worker, account in state.ledger.accounts.items()
        if worker not in state.busy and not account.load
    )
    return any(fits_now(state, extra_now(state, model, next_units(model)) - kept) for model in short)


def _given(model: Model) -> float:
    return model.background_since


def _rounds(model: Model) -> int:
    return math.floor(-model.deficit / (QUANTUM * model.policy.priority)) + 1


def _dispatch(state: SchedulerState, model: Model, now: float) -> None:
    worker = model.worker
    assert worker is not None
    alone = model.policy.concurrency == 1

    def fits(units: int) -> bool:
        extra = extra_now(state, model, units)
        return fits_now(state, extra) and leaves_room_for_swap(state, model, extra)

    batch = form_batch(model.queue, model.policy.max_batch, fits if alone else lambda _units: True)
    if not model.running:
        state.ledger.slots_used += model.policy.slots
        units = units_of(batch) if alone else 0
        state.ledger.run(worker, model.footprint.activation_for(units))
        model.busy_period = BusyPeriod(state.account(model).held, units)
        state.busy[worker] = model
        model.charged_until = now
    for request in batch:
        request.dispatched = now
        model.running[request.id] = request
        model.interactive += not request.background
    model.batches.append({request.id for request in batch})
    if batch[0].background:
        given(model, now)
    model.dispatches += len(batch)
    model.inflation = state.inflation
    model.last_used = now
    if model.starved:
        model.starved = False
        del state.starved[model.policy.name]
    if not model.queue:
        model.deficit = min(model.deficit, 0.0)
    state.changed(model)
    state.out.append(Dispatch(model.policy.name, worker, tuple(request.id for request in batch)))


def withdraw(state: SchedulerState, model: Model, request_ids: Iterable[int], now: float) -> None:
    """These requests are off the worker, one way or the other; free what their run held."""
    for request_id in request_ids:
        request = model.running.pop(request_id)
        model.interactive -= not request.background
        for batch in model.batches:
            batch.discard(request_id)
    model.batches = [batch for batch in model.batches if batch]
    if not model.running:
        assert model.worker is not None
        state.ledger.slots_used -= model.policy.slots
        state.ledger.rest(model.worker, now)
        del state.busy[model.worker]
        model.idle_since = now
        model.last_used = now
    state.changed(model)
