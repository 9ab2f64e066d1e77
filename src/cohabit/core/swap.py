"""Which model is loaded, and when. Branch 3 of the decision tree.

3.0  More is reserved than the budget allows (it shrank, or a worker outgrew what it was given): caches are trimmed,
     then sleepers and then idle workers are stopped, each by their score. Sleepers are stopped, too, while copies
     take more of host memory than they may. While the device cannot be read nothing is loaded: 3.2 and 3.3 do not
     apply.
3.1  The model of the swap does not need it any more, or the device cannot be read: the swap is cancelled, and victims
     that still drain go on serving.
3.2  There is a swap: its victims leave as they become idle; the model is loaded once everything it needs fits.
3.3  There is none: the most urgent waiter that may be served gets one. ``preemption`` says which workers make room
     for it, and from when. While it waits, its process may be started, if what that takes is known and free: one
     process at a time, which is stopped when no request waits for its model any more.
"""

import math
from collections.abc import Iterator, Mapping
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
from cohabit.core.lifecycle import COMING, State
from cohabit.core.model_state import Model, Reclaim, Swap
from cohabit.core.preemption import Preemption, Reservation
from cohabit.core.state import SchedulerState

_LEAVES = frozenset({State.PREWARMED, State.READY, State.SLEEPING})
MOMENT = 0.001  # seconds, far more than rounding
OVER_BUDGET = "more is reserved than the budget allows"
LOOK_AHEAD = 8  # waiters for whom room is sought, the most urgent first, before the others must wait for a change
LOOK_FURTHER = 64  # waiters that may have room which is free


def stop(state: SchedulerState, model: Model, cause: StopCause, why: str, now: float, *, kill: bool = False) -> None:
    """Tell a worker to leave."""
    assert model.worker is not None
    state.exit_started(model, now)
    if cause in {StopCause.EVICTED, StopCause.OVER_BUDGET}:
        model.usage.last_eviction = why
    state.emit(StopWorker(model.name, model.worker, cause, why, kill=kill))


def sleep(state: SchedulerState, model: Model, cause: StopCause, why: str, now: float) -> None:
    """Tell an idle worker to let go of its weights."""
    assert model.worker is not None
    state.sleep_started(model, sleep_resident(model), now)
    if cause is StopCause.EVICTED:
        model.usage.last_eviction = why
    state.emit(SleepWorker(model.name, model.worker, cause, why))


def trim(state: SchedulerState, model: Model, why: str) -> None:
    """Tell an idle worker to give its caches back."""
    assert model.worker is not None
    state.trim_started(model)
    state.emit(TrimWorker(model.name, model.worker, why))


def reclaim_overcommit(state: SchedulerState, policy: Policy, now: float) -> None:
    """Branch 3.0: come back within the budgets by stopping idle workers."""
    if state.ledger.copied > state.ledger.host_cache:
        for sleeper in over_host_cache(state, policy):
            why = "copies of weights are over what they may take of host memory (device.host_cache)"
            stop(state, sleeper, StopCause.OVER_BUDGET, why, now)
    over = state.ledger.reserved - state.ledger.effective_budget
    if over <= 0:
        return
    if state.prewarmed is not None:
        over -= state.account(state.prewarmed).held
        stop(state, state.prewarmed, StopCause.UNNEEDED, OVER_BUDGET, now)
    for account in state.ledger.accounts.values():
        if account.leaving:
            over -= account.held - account.remains
        elif account.trimming:
            over -= account.held - account.idle
        elif not account.activation:
            over -= account.held - account.at_rest  # the next reading shows what of it is free
    idle = [m for m in state.workers.values() if not m.run.requests and not m.policy.pin]
    for model in idle:
        account = state.account(model)
        if over > 0 and model.state is State.READY and account.cached and not (account.trimmed or account.trimming):
            over -= account.cached
            trim(state, model, OVER_BUDGET)
    idle = [m for m in idle if m.state in {State.READY, State.SLEEPING} and not state.account(m).trimming]
    for model in sorted(idle, key=lambda m: (m.state is State.READY, score(state, m, policy))):
        if over <= 0:
            return
        over -= state.account(model).at_rest
        why = f"{OVER_BUDGET}; {account_for(state, model, policy, Reclaim.STOP)}"
        stop(state, model, StopCause.OVER_BUDGET, why, now)


def schedule_swaps(state: SchedulerState, policy: Policy, now: float) -> None:
    """Branches 3.1 to 3.3. A swap that is done at once leaves the next waiter free to get one."""
    _cancel_needless_swap(state)
    if state.prewarmed is not None and state.prewarmed.name not in state.waiters:
        stop(state, state.prewarmed, StopCause.UNNEEDED, "no request waits for its model any more", now)
    if state.unreadable is not None:
        state.next_try = None
        return
    _advance_swap(state, policy, now)
    swapped = True
    while swapped and state.swap is None:
        swapped = _choose_swap(state, policy, now)


def _choose_swap(state: SchedulerState, policy: Policy, now: float) -> bool:
    """Branches 3.3 and 3.4: begin the swap of the first waiter that may have one. Returns whether one began."""
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
    for model in state.waiting(now):
        if now < model.health.not_before:
            continue
        if not model.unloaded and not (tight and occupancy.shortfall(state, model) > 0):
            continue  # it waits for slots, not for room
        if not infeasible(state, model):
            yield model


def _cancel_needless_swap(state: SchedulerState) -> None:
    """Branch 3.1. A swap that its victims no longer satisfy is cancelled too: 3.3 decides anew."""
    swap = state.swap
    if swap is None:
        return
    model = state.models[swap.model]
    for worker, chosen in list(swap.victims.items()):
        if _has_made_room(state, worker, chosen):
            state.victim_done(worker)
    # With nobody waiting it is a preload, for which nobody makes room.
    victims = swap.victims if model.waiting_since < math.inf else {}
    if state.unreadable is None and model.name in state.waiters and shortfall(state, model, victims) <= 0:
        return
    state.swap_ended()


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
    """Branch 3.3 for one waiter: which workers make room now, and how. None: not yet; ``later`` gets the times."""
    state, waiter, now = search.state, search.waiter, search.now
    if waiter.footprint.margin and any(model.state in COMING for model in state.workers.values()):
        return None  # it ran out of memory before, and loads alone
    choice = search.choose(policy, occupancy)
    reclaims, times = choice.reclaims, choice.later
    worth_at = search.since + start_seconds(waiter)
    held_up = reclaims is not None and not search.overdue and (waiter.best_effort or now < worth_at)
    if held_up and missing_now(state, waiter, reclaims or {}) > 0:
        # Only runs of others are in the way: they are held up no sooner than a swap would be worth it.
        reclaims, times = None, [] if waiter.best_effort else [worth_at]
    if reclaims is None and search.has_waiters:
        later += [*times, search.overdue_at]
    return reclaims


def _start_swap(search: Preemption, reclaims: dict[int, Reclaim], policy: Policy) -> None:
    state, waiter, now = search.state, search.waiter, search.now
    if search.has_waiters:
        reclaims |= dict.fromkeys(host_victims(state, waiter, reclaims, policy, now), Reclaim.STOP)
    why = f"for {waiter.name}, waiting {now - search.since:.1f} s: {_reason(search, reclaims)}"
    state.swap_started(Swap(waiter.name, since=now, need=need(state, waiter), victims=reclaims, why=why))


def _reason(search: Preemption, reclaims: Mapping[int, Reclaim]) -> str:
    victims = [search.state.workers[worker] for worker, chosen in reclaims.items() if chosen is not Reclaim.TRIM]
    if search.overdue:
        return "it waited max_wait"
    if any(victim.busy or victim.queue for victim in victims):
        return "the others have served for as long as their patience says"
    return "the others are idle, and were for longer than bringing them back costs" if victims else "others are idle"


def _prewarm(state: SchedulerState, waiting: list[Model], now: float) -> None:
    """Start the process of the most urgent waiter before there is room for the model: it imports what it needs."""
    if state.prewarmed is not None or not waiting:
        return
    occupancy, ledger = Occupancy.of(state), state.ledger
    free = ledger.effective_budget - max(ledger.reserved, occupancy.idle + occupancy.run)  # in the way of no run
    for model in waiting:
        size = model.footprint.prewarmed
        if model.worker is None and not model.best_effort and size is not None and size <= free:
            state.emit(PrewarmWorker(model.name, state.prewarm_started(model, size, now)))
            return


def _advance_swap(state: SchedulerState, policy: Policy, now: float) -> None:
    """Branch 3.2."""
    swap = state.swap
    if swap is None:
        return
    for worker, chosen in swap.victims.items():
        victim = state.workers.get(worker)
        if victim is not None and not victim.run.requests and victim.state in _LEAVES:
            _make_room(state, victim, chosen, policy, now)
    model = state.models[swap.model]
    swap.need = need(state, model)
    if any(not _has_made_room(state, worker, chosen) for worker, chosen in swap.victims.items()):
        return  # a victim that stops is never resurrected, and one that drains has been promised to go
    if model.unloaded and state.ledger.reserved + swap.need <= state.ledger.effective_budget:
        state.swap_ended()
        start(state, model, now)
    # A swap for a model that is ready stays until the model runs: branch 2 gives it its dispatch, 3.1 ends it.


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
    sleeping = model.state is State.SLEEPING
    copied = not sleeping and is_copied(state, model)
    model.backfill_blocked_by = None
    worker = state.load_started(model, host_copy_bytes(model) if copied else 0, now)
    if sleeping:
        state.emit(WakeWorker(model.name, worker))
    else:
        state.emit(StartWorker(model.name, worker, keep_copy=copied))


def overtakes_at(behind: Model, first: Model) -> float:
    """When a waiter that is less urgent than another has become more so; ``inf``: never."""
    if behind.best_effort or behind.policy.max_wait >= first.policy.max_wait:
        return math.inf
    allowed, longer = behind.policy.max_wait, first.policy.max_wait
    return (behind.waiting_since * longer - first.waiting_since * allowed) / (longer - allowed) + MOMENT
