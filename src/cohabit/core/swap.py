"""Who is brought in, and when. Branch 3 of the decision tree.

3.0  The books are over the budget (it shrank, or a worker outgrew them): caches are trimmed, then sleepers and then
     idle workers are stopped, each by their score. Sleepers are, too, while copies take more of host memory than
     they may. While the device cannot be read nothing is brought in: 3.2 and 3.3 do not apply.
3.1  The claim's model needs it no more, or the device cannot be read: it is withdrawn, victims that still drain go
     on serving.
3.2  There is a claim: its victims leave as they fall idle; it is fulfilled once everything it needs fits.
3.3  There is none: the most urgent waiter that may be served gets it. Whom it may take the room from, and from when,
     is in ``victims``. While it waits for its room its process is started, if what that takes is known and free: one
     at a time, which goes again when nobody waits for its model any more.
"""

import math
from collections.abc import Iterator
from functools import cache
from itertools import islice

from cohabit.core.commands import (
    PrewarmWorker,
    SleepWorker,
    StartWorker,
    StopCause,
    StopWorker,
    TrimWorker,
    WakeWorker,
)
from cohabit.core.eviction import Policy, account_for, score, start_seconds
from cohabit.core.fit import Occupancy, infeasible, missing_now, need, shortfall, sleep_resident
from cohabit.core.host_offload import host_copy_bytes, host_victims, is_copied, over_host_cache
from cohabit.core.lifecycle import COMING, Move, State
from cohabit.core.preemption import Preemption
from cohabit.core.reservation import Reservation
from cohabit.core.state import Model, Reclaim, SchedulerState, Swap
from cohabit.core.waiters import overtakes_at

_LEAVES = frozenset({State.PREWARMED, State.READY, State.SLEEPING})
LOOK_AHEAD = 8  # waiters for whom room is sought, the most urgent first, before the others must wait for a change
LOOK_FURTHER = 64  # waiters that may have room which is free


def stop(state: SchedulerState, model: Model, cause: StopCause, why: str, now: float, *, kill: bool = False) -> None:
    """Tell a worker to leave."""
    assert model.worker is not None
    model.lifecycle.move(Move.STOP, now)
    model.draining = False
    state.ledger.leave(model.worker)
    state.changed(model)
    if cause in {StopCause.EVICTED, StopCause.OVER_BUDGET}:
        model.last_eviction = why
    state.out.append(StopWorker(model.name, model.worker, cause, why, kill=kill))


def sleep(state: SchedulerState, model: Model, cause: StopCause, why: str, now: float) -> None:
    """Tell an idle worker to let go of its weights."""
    assert model.worker is not None
    model.lifecycle.move(Move.SLEEP, now)
    model.draining = False
    state.ledger.leave(model.worker, sleep_resident(model))
    state.changed(model)
    if cause is StopCause.EVICTED:
        model.last_eviction = why
    state.out.append(SleepWorker(model.name, model.worker, cause, why))


def trim(state: SchedulerState, model: Model, why: str) -> None:
    """Tell an idle worker to give its caches back."""
    assert model.worker is not None
    state.ledger.trim(model.worker)
    state.changed(model)
    state.out.append(TrimWorker(model.name, model.worker, why))


def reclaim_overcommit(state: SchedulerState, policy: Policy, now: float) -> None:
    """Branch 3.0: come back within the budgets by letting idle workers go."""
    if state.ledger.copied > state.ledger.host_cache:
        for sleeper in over_host_cache(state, policy):
            why = "copies of weights are over what they may take of host memory (device.host_cache)"
            stop(state, sleeper, StopCause.OVER_BUDGET, why, now)
    over = state.ledger.reserved - state.ledger.effective_budget
    if over <= 0:
        return
    if state.prewarmed is not None:
        over -= state.account(state.prewarmed).held
        stop(state, state.prewarmed, StopCause.UNNEEDED, "the books are over the budget", now)
    for account in state.ledger.accounts.values():
        if account.leaving:
            over -= account.held - account.remains
        elif account.trimming:
            over -= account.held - account.idle
        elif not account.activation:
            over -= account.held - account.at_rest  # the next reading shows what of it is free
    idle = [m for m in state.workers.values() if not m.running and not m.policy.pin]
    for model in idle:
        account = state.account(model)
        if over > 0 and model.state is State.READY and account.cached and not (account.trimmed or account.trimming):
            over -= account.cached
            trim(state, model, "the books are over the budget")
    idle = [m for m in idle if m.state in {State.READY, State.SLEEPING} and not state.account(m).trimming]
    for model in sorted(idle, key=lambda m: (m.state is State.READY, score(state, m, policy))):
        if over <= 0:
            return
        over -= state.account(model).at_rest
        why = f"the books are over the budget; {account_for(state, model, policy, Reclaim.STOP)}"
        stop(state, model, StopCause.OVER_BUDGET, why, now)


def schedule_swaps(state: SchedulerState, policy: Policy, now: float) -> None:
    """Branches 3.1 to 3.3. A claim that is met at once leaves the next waiter free to make one."""
    _cancel_needless_swap(state)
    if state.prewarmed is not None and state.prewarmed not in state.waiters:
        stop(state, state.prewarmed, StopCause.UNNEEDED, "nobody waits for it any more", now)
    if state.unreadable is not None:
        state.next_try = None
        return
    _advance_swap(state, policy, now)
    swapped = True
    while swapped and state.swap is None:
        swapped = _choose_swap(state, policy, now)


def _choose_swap(state: SchedulerState, policy: Policy, now: float) -> bool:
    """Branches 3.3 and 3.4: form the claim of the first waiter that may make one. Returns whether one did."""
    later: list[float] = []
    waiting: list[Model] = []
    occupancy = Occupancy.of(state)
    first: Preemption | None = None
    swapped = False
    promised = cache(Reservation.of)
    for place, waiter in enumerate(list(islice(_eligible(state, occupancy, now), LOOK_FURTHER))):
        waiter.backfill_blocked_by = None
        if place >= LOOK_AHEAD and occupancy.shortfall(state, waiter) > 0:
            continue
        search = Preemption.of(state, waiter, now)
        reclaims = _room_for(search, policy, occupancy, later)
        if reclaims is not None and first is not None:
            reservation = promised(first)
            if reservation is not None and not reservation.allows_backfill(waiter, reclaims, now):
                waiter.backfill_blocked_by, reclaims = first.waiter, None
                later.append(overtakes_at(waiter, first.waiter))
        if reclaims is not None:
            _start_swap(search, reclaims, policy)
            _advance_swap(state, policy, now)
            waiting.insert(0, waiter)
            swapped = True
            break
        if search.has_waiters:
            waiting.append(waiter)
            if not waiter.best_effort:  # nobody makes room for background work, so none is kept for it
                first = first or search
    _prewarm(state, waiting, now)
    state.next_try = min((at for at in later if now < at < math.inf), default=None)
    return swapped


def _eligible(state: SchedulerState, occupancy: Occupancy, now: float) -> Iterator[Model]:
    """Models that lack room and could have it, the most urgent first."""
    if any(model.state in COMING and model.footprint.margin for model in state.workers.values()):
        return  # it ran out of memory before: this time it loads alone
    tight = occupancy.tight(state)
    for model in state.waiters.by_urgency(now):
        if now < model.not_before:
            continue
        if not model.out and not (tight and occupancy.shortfall(state, model) > 0):
            continue  # it waits for slots, not for room
        if not infeasible(state, model):
            yield model


def _cancel_needless_swap(state: SchedulerState) -> None:
    """Branch 3.1. Also withdrawn is a claim that its victims no longer satisfy: 3.3 decides anew."""
    swap = state.swap
    if swap is None:
        return
    model = state.models[swap.model]
    for worker, chosen in list(swap.victims.items()):
        if _has_made_room(state, worker, chosen):
            del swap.victims[worker]
    # With nobody waiting it is a preload, for which nobody makes room.
    victims = swap.victims if model.waiting_since < math.inf else {}
    if state.unreadable is None and model in state.waiters and shortfall(state, model, victims) <= 0:
        return
    state.swap = None
    for worker in swap.victims:
        victim = state.workers[worker]
        victim.draining = False
        state.changed(victim)


def _has_made_room(state: SchedulerState, worker: int, chosen: Reclaim) -> bool:
    """Whether nothing more is to be expected of a victim: what it has not given up by now it keeps."""
    if worker not in state.workers:
        return True
    account = state.ledger.accounts[worker]
    if chosen is Reclaim.SLEEP:
        return state.workers[worker].state is State.SLEEPING and not account.unconfirmed
    return chosen is Reclaim.TRIM and not account.trimming and not (account.trimmed and account.unconfirmed)


def _room_for(
    search: Preemption, policy: Policy, occupancy: Occupancy, later: list[float]
) -> dict[int, Reclaim] | None:
    """Branch 3.3 for one waiter: who may make room for it now, and how; None: not yet, and ``later`` is told when."""
    state, waiter, now = search.state, search.waiter, search.now
    if waiter.footprint.margin and any(model.state in COMING for model in state.workers.values()):
        return None  # it ran out of memory before, and loads alone
    choice = search.choose(policy, occupancy)
    reclaims, times = choice.reclaims, choice.later
    worth_at = search.since + start_seconds(waiter)
    held_up = reclaims is not None and not search.overdue and (waiter.best_effort or now < worth_at)
    if held_up and missing_now(state, waiter, reclaims or {}) > 0:
        # Only runs of others are in the way: they are held up no sooner than a switch would be worth it.
        reclaims, times = None, [] if waiter.best_effort else [worth_at]
    if reclaims is None and search.has_waiters:
        later += [*times, search.overdue_at]
    return reclaims


def _start_swap(search: Preemption, reclaims: dict[int, Reclaim], policy: Policy) -> None:
    state, waiter, now = search.state, search.waiter, search.now
    if search.has_waiters:
        reclaims |= dict.fromkeys(host_victims(state, waiter, reclaims, policy, now), Reclaim.STOP)
    waited = now - search.since
    reason = (
        "it waited max_wait" if search.overdue else "idle for longer than its return costs, or its patience is over"
    )
    why = f"for {waiter.name}, waiting {waited:.1f} s: {reason}"
    state.swap = Swap(waiter.name, since=now, need=need(state, waiter), victims=reclaims, why=why)
    for worker, chosen in reclaims.items():
        if chosen is not Reclaim.TRIM:
            victim = state.workers[worker]
            victim.draining = victim.state is State.READY
            state.changed(victim)


def _prewarm(state: SchedulerState, waiting: list[Model], now: float) -> None:
    """Let one process start, and import what it needs, before there is room for its model: of who comes first."""
    if state.prewarmed is not None or not waiting:
        return
    occupancy, ledger = Occupancy.of(state), state.ledger
    free = ledger.effective_budget - max(ledger.reserved, occupancy.rest + occupancy.largest)  # in the way of no run
    for model in waiting:
        size = model.footprint.prewarmed
        if model.worker is None and not model.best_effort and size is not None and size <= free:
            worker = _give_process(state, model)
            model.lifecycle.move(Move.PREWARM, now)
            ledger.prewarm(worker, size)
            state.out.append(PrewarmWorker(model.name, worker))
            state.changed(model)
            return


def _give_process(state: SchedulerState, model: Model) -> int:
    state.worker_count += 1
    model.worker = state.worker_count
    state.workers[model.worker] = model
    return model.worker


def _advance_swap(state: SchedulerState, policy: Policy, now: float) -> None:
    """Branch 3.2."""
    swap = state.swap
    if swap is None:
        return
    for worker, chosen in swap.victims.items():
        victim = state.workers.get(worker)
        if victim is not None and not victim.running and victim.state in _LEAVES:
            _make_room(state, victim, chosen, policy, now)
    model = state.models[swap.model]
    swap.need = need(state, model)
    if any(not _has_made_room(state, worker, chosen) for worker, chosen in swap.victims.items()):
        return  # a victim that stops is never resurrected, and one that drains has been promised to go
    if model.out and state.ledger.reserved + swap.need <= state.ledger.effective_budget:
        state.swap = None
        start(state, model, now)
    # A claim to run stays until the model does: branch 2 gives it its dispatch, 3.1 ends it.


def _make_room(state: SchedulerState, victim: Model, chosen: Reclaim, policy: Policy, now: float) -> None:
    swap, account = state.swap, state.account(victim)
    assert swap is not None
    if account.trimming:
        return
    if chosen is Reclaim.TRIM:
        if not account.trimmed:
            trim(state, victim, swap.why)
    elif victim.state is State.PREWARMED:
        stop(state, victim, StopCause.UNNEEDED, swap.why, now)
    elif chosen is Reclaim.STOP:
        why = f"{swap.why}; {account_for(state, victim, policy, chosen)}"
        stop(state, victim, StopCause.EVICTED, why, now)
    elif victim.state is State.READY:
        why = f"{swap.why}; {account_for(state, victim, policy, chosen)}"
        sleep(state, victim, StopCause.EVICTED, why, now)


def start(state: SchedulerState, model: Model, now: float) -> None:
    """Reserve what it takes and begin to load it, or to wake it."""
    model.load_requested, model.load_requested_at = False, None
    model.dispatches = 0
    model.inflation = state.inflation
    model.backfill_blocked_by = None
    worker = _give_process(state, model) if model.worker is None else model.worker
    state.ledger.load(worker, model.footprint.load_need)
    if model.state is State.SLEEPING:
        model.lifecycle.move(Move.WAKE, now)
        state.out.append(WakeWorker(model.name, worker))
    else:
        model.lifecycle.move(Move.START, now)
        copied = is_copied(state, model)
        if copied:
            state.ledger.host_copy(worker, host_copy_bytes(model))
        state.out.append(StartWorker(model.name, worker, keep_copy=copied))
    state.changed(model)
