"""Branch 2 of the decision tree: which model is given work. Branch 5: background work.

2.1  Deficit round robin over device-seconds, weighted by priority (Shreedhar and Varghese, SIGCOMM 1995). A model is
     charged for the time during which anything of it is in flight, once, however many requests its engine runs
     together. A model that has used up its quantum is skipped while any other model can run, or could run once idle
     workers release cached memory. Debts persist; credit is dropped when a queue empties.
2.2  Not everything that runs may be long: where everything in flight is predicted to take over LONG seconds, the last
     free slot is kept for something short, as long as a loaded model has short runs.
2.3  An engine that always has something in flight would never give its slots back. It yields when another model has
     waited for slots ``patience`` times as long as one of its runs takes, by their priorities.
2.4  A model that was given nothing for ``max_wait`` because slots or bytes were always taken is starved: 2.2 does not
     apply to it, and no model overtakes it any more.

5.1  Background work (nobody waits for it now: durable batches) is best effort. It comes last in its model's queue; it
     takes slots and memory only while nothing interactive of a loaded model waits for any; where an engine takes
     several requests at once it leaves one place; and its slots and its memory go to something interactive as soon as
     what runs has ended.
5.2  It makes room only where that costs nobody anything: it takes what is free, and what has been idle for longer
     than bringing it back costs.
5.3  It is not starved either. Background work that was given nothing for so long that one run, or the swap that it
     needs, is no more than FLOOR of that time, counts as interactive for one run, or until it has served the cost of
     the swap. So does work that has less than LAST of its time left before it expires.
"""

import math
from collections.abc import Sequence
from enum import Enum, auto

from cohabit.core.batching import form_batch, units_of
from cohabit.core.commands import Dispatch
from cohabit.core.eviction import start_seconds
from cohabit.core.fit import extra_now, fits_now, freed_bytes, leaves_room_for_swap, next_units
from cohabit.core.lifecycle import State
from cohabit.core.model_state import Model, Reclaim
from cohabit.core.queues import Request
from cohabit.core.state import SchedulerState

QUANTUM = 0.1  # device-seconds a round for priority 1
LONG = 2.0  # seconds
FLOOR = 0.05  # of a device's time
LAST = 0.1  # of the time between arrival and deadline


class Blocked(Enum):
    """Why a ready model with waiting requests is not given one now. ``explain`` has the words."""

    DRAINING = auto()
    UNLOADING = auto()
    TRIMMING = auto()
    CONCURRENCY = auto()
    RUNS_ALONE = auto()  # a request that is tried again runs by itself
    YIELDS_SLOTS = auto()  # branch 2.3
    OVER_BUDGET = auto()
    SLOT = auto()
    LAST_SLOT = auto()  # branch 2.2
    MEMORY = auto()
    SWAP = auto()  # it would take what a swap frees


_TAKEN = frozenset({Blocked.SLOT, Blocked.LAST_SLOT, Blocked.MEMORY})


def charge(state: SchedulerState, now: float) -> None:
    """Charge every busy model for the time since it was last charged. Background work is not charged."""
    for model in state.busy.values():
        if model.run.interactive:
            model.share.deficit -= now - model.share.charged_until
        model.share.charged_until = now


def blocked_by(state: SchedulerState, model: Model, now: float) -> Blocked | None:
    """Why a ready model with waiting requests cannot be given one now; None if it can."""
    if model.draining:
        return Blocked.DRAINING
    if model.unload_requested is not None:
        return Blocked.UNLOADING
    if state.account(model).trimming:
        return Blocked.TRIMMING
    running = model.run.requests
    places, taken = model.policy.concurrency, len(model.run.batches)
    if taken >= places or (taken and taken == places - 1 and model.queue.best_effort):  # branch 5.1
        return Blocked.CONCURRENCY
    if running:
        if model.queue.peek().retried or any(request.retried for request in running.values()):
            return Blocked.RUNS_ALONE
        if _should_yield(state, model, now):
            return Blocked.YIELDS_SLOTS
        extra = 0
        if not fits_now(state, 0):
            return Blocked.OVER_BUDGET
    else:
        if state.ledger.slots_used + model.policy.slots > state.ledger.slots:
            return Blocked.SLOT
        if not model.starved and _all_long(state, model):
            return Blocked.LAST_SLOT
        extra = extra_now(state, model, next_units(model))
        if not fits_now(state, extra):
            return Blocked.MEMORY
    if not leaves_room_for_swap(state, model, extra):
        return Blocked.SWAP
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
        not other.run.requests
        and not other.queue.best_effort
        and free < other.policy.slots <= free + model.policy.slots
        and now - ready_since(other) >= hold / other.policy.priority
        for other in state.runnable.values()
    )


def ready_since(model: Model) -> float:
    """Time since which a ready model has been given nothing though something waits."""
    return max(model.queue_waiting_since, model.usage.last_used)


def starved_at(model: Model) -> float:
    """Branch 2.4: when a model that is ready, idle and has work may be overtaken no more."""
    return ready_since(model) + model.policy.max_wait


def urgent_at(model: Model) -> float:
    """Branch 5.3: when background work that waits counts as interactive."""
    usage = model.usage
    since = max(model.queue.background.oldest, model.share.background_since)
    if model.lifecycle.state is State.READY:
        at = max(since, usage.loaded_at) + model.footprint.run_seconds.value / FLOOR
    else:
        at = max(since, usage.unloaded_at) + start_seconds(model) / FLOOR
    if model.deadlines:
        deadline, _, request = model.deadlines[0]
        if request.background and request.queued:
            at = min(at, deadline - LAST * (deadline - request.arrived))
    return at


def dispatch_all(state: SchedulerState, now: float) -> None:
    """Give out everything that can be given out."""
    while state.runnable:
        # While the device cannot be read, what a model lacks may never come free: nobody waits for it.
        starved = state.starved.values() if state.unreadable is None else ()
        if any(blocked_by(state, model, now) in _TAKEN for model in starved):
            return
        model = _turn(state, now)
        if model is None:
            return
        _dispatch(state, model, now)


def _turn(state: SchedulerState, now: float) -> Model | None:
    """The model whose quantum lasts; if no model's does, as many rounds pass as it takes until one does.

    Branch 5.1: background work if nothing interactive could be given anything, or lacks slots or memory for it.
    """
    candidates, best_effort, short = [], [], []
    lacking = False
    full = state.ledger.slots_used >= state.ledger.slots
    for model in state.runnable.values():
        why = Blocked.SLOT if full and not model.run.requests else blocked_by(state, model, now)
        if why is not None:
            lacking = lacking or (why in _TAKEN and not model.queue.best_effort)
            if why is Blocked.MEMORY and not model.queue.best_effort:
                short.append(model)
        elif model.queue.best_effort:
            best_effort.append(model)
        elif model.share.deficit > 0:
            break
        else:
            candidates.append(model)
    else:
        if not candidates:
            return None if lacking or not best_effort else min(best_effort, key=_background_since)
        rounds = min(map(_rounds, candidates))
        if _can_be_freed(state, [model for model in short if _rounds(model) <= rounds]):
            return None
        model = min(candidates, key=_rounds)
        for candidate in candidates:
            candidate.share.deficit += rounds * QUANTUM * candidate.policy.priority
    state.turn_to(model)
    return model


def _can_be_freed(state: SchedulerState, short: Sequence[Model]) -> bool:
    """Whether any of those that lack memory could run if idle workers gave back what their last runs left, or a
    reading showed that they have. During a swap no worker is asked to."""
    if not short or state.swap is not None or state.unreadable is not None:
        return False
    kept = sum(
        freed_bytes(state, worker, Reclaim.TRIM)
        for worker, account in state.ledger.accounts.items()
        if worker not in state.busy and not account.load
    )
    return any(fits_now(state, extra_now(state, model, next_units(model)) - kept) for model in short)


def _background_since(model: Model) -> float:
    return model.share.background_since


def _rounds(model: Model) -> int:
    return math.floor(-model.share.deficit / (QUANTUM * model.policy.priority)) + 1


def _dispatch(state: SchedulerState, model: Model, now: float) -> None:
    assert model.worker is not None
    alone = model.policy.concurrency == 1

    def fits(units: int) -> bool:
        extra = extra_now(state, model, units)
        return fits_now(state, extra) and leaves_room_for_swap(state, model, extra)

    batch = form_batch(model.queue, model.policy.max_batch, fits if alone else lambda _units: True)
    units = units_of(batch) if alone else 0
    if not model.run.requests:
        model.share.charged_until = now
    if batch[0].background:
        _background_dispatched(state, model, now)
    if not model.queue:
        model.share.deficit = min(model.share.deficit, 0.0)
    state.run_started(model, batch, model.footprint.activation_for(units), units, now)
    state.emit(Dispatch(model.policy.name, model.worker, _ids(batch)))


def _background_dispatched(state: SchedulerState, model: Model, now: float) -> None:
    """Branch 5.3: is background work urgent any longer?"""
    model.share.background_since = now
    if model.queue.interactive.count or now >= model.usage.loaded_at + model.usage.load_duration:
        state.set_urgent(model, urgent=False)


def _ids(batch: Sequence[Request]) -> tuple[int, ...]:
    return tuple(request.id for request in batch)
