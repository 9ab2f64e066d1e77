"""What a waiting request waits for, and about when it will be served. Estimates, from measured averages."""

import math
from collections.abc import Iterable, Iterator, Sequence
from types import MappingProxyType

from cohabit.core.dispatch import Blocked, blocked_by
from cohabit.core.eviction import start_seconds
from cohabit.core.fit import infeasible
from cohabit.core.lifecycle import COMING, State
from cohabit.core.model_state import Model
from cohabit.core.preemption import Preemption, Reservation
from cohabit.core.state import SchedulerState

BLOCKED = MappingProxyType(
    {
        Blocked.DRAINING: "the model to be loaded again once it has made room for another",
        Blocked.UNLOADING: "the model to be loaded again once it has left, as the operator asked",
        Blocked.TRIMMING: "its caches to be given back",
        Blocked.CONCURRENCY: "a request of this model to finish",
        Blocked.RUNS_ALONE: "its turn to run alone, since its first run failed",
        Blocked.YIELDS_SLOTS: "its turn, after others that wait for its slots",
        Blocked.OVER_BUDGET: "the memory in use to fall below the budget",
        Blocked.SLOT: "a compute slot",
        Blocked.LAST_SLOT: "a compute slot, since the last one is kept for something short",
        Blocked.MEMORY: "working memory",
        Blocked.SWAP: "room that is being made for another model",
    }
)


def expected_wait(state: SchedulerState, model: Model, position: int, now: float) -> float:
    """Seconds until the request at this place of its model's queue (from 1) is probably given to the worker."""
    (wait,) = expected_waits(state, model, [position], now)
    return wait


def expected_waits(state: SchedulerState, model: Model, positions: Iterable[int], now: float) -> Iterator[float]:
    """The same for many places, of which each costs little."""
    ready = _until_ready(state, model, now)
    at_once = model.policy.concurrency * model.policy.max_batch
    free = (model.policy.concurrency - len(model.run.batches)) * model.policy.max_batch
    rivals = [other for other in state.runnable.values() if other is not model and not other.run.requests]
    share = _share(state, model, rivals)
    needs_slots = not model.run.requests and state.ledger.slots_used + model.policy.slots > state.ledger.slots
    for position in positions:
        rounds = math.ceil(max(0, position - free) / at_once)
        rounds = max(1, rounds) if needs_slots else rounds
        yield ready + rounds * model.footprint.run_seconds.value / share


def waits_for(state: SchedulerState, model: Model, now: float) -> str:
    """What keeps the next request of a model from running."""
    swap, worker_state = state.swap, model.state
    if worker_state is State.READY:
        blocked = blocked_by(state, model, now)
        if blocked is not None:
            return BLOCKED[blocked]
        return "its turn after others" if model.queue.best_effort else "its turn"
    if worker_state in COMING:
        return "the model to be loaded" if worker_state is State.STARTING else "the model to be woken"
    if worker_state in {State.STOPPING, State.ENTERING_SLEEP}:
        return "the model to leave before it can be brought back"
    if now < model.health.not_before:
        return "the pause after a failed start"
    if state.unreadable is not None:
        return "the device to be read again"
    if infeasible(state, model):
        return "memory that others than our models hold, or that is pinned"
    if swap is not None and swap.model == model.name:
        names = [victim.name for victim in _leaving(state)]
        return f"room: {', '.join(names)} must leave" if names else "memory to be seen free"
    if swap is not None:
        return f"{swap.model} to be brought in first"
    if model.backfill_blocked_by is not None:
        first = model.backfill_blocked_by.name
        return f"{first} to be loaded first: it has waited longer, and would have to wait longer still"
    if model.best_effort:
        return "room that is free, or idle for longer than bringing back what is there costs"
    room_in = _room_in(state, model, now)
    if room_in is None:
        return "the part of its batch that another model works on"
    return f"others to have served their time; room is made in {room_in:.1f} s at the latest"


def _share(state: SchedulerState, model: Model, rivals: Sequence[Model]) -> float:
    """Of the device's time, while others share its slots."""
    if not rivals:
        return 1.0
    weights = model.policy.priority + sum(other.policy.priority for other in rivals)
    return min(1.0, state.ledger.slots * model.policy.priority / weights)


def _until_ready(state: SchedulerState, model: Model, now: float) -> float:
    if model.state is State.READY:
        return 0.0
    enter = start_seconds(model)
    if model.state in COMING:
        return max(0.0, enter - (now - model.lifecycle.since))
    swap = state.swap
    if swap is not None and swap.model == model.name:
        return _until_left(state, now) + enter
    wait = max(0.0, model.health.not_before - now)
    if swap is not None:
        wait = max(wait, _until_left(state, now) + start_seconds(state.models[swap.model]))
    elif model.backfill_blocked_by is not None:
        wait = max(
            wait, (_room_in(state, model.backfill_blocked_by, now) or 0.0) + start_seconds(model.backfill_blocked_by)
        )
    elif not model.best_effort:
        wait = max(wait, _room_in(state, model, now) or 0.0)
    return wait + enter


def _room_in(state: SchedulerState, model: Model, now: float) -> float | None:
    """Seconds until others have served for long enough to make room for it; None: that is not what it waits for."""
    reservation = Reservation.of(Preemption.of(state, model, now))
    return None if reservation is None else max(0.0, reservation.shadow_time - now)


def _leaving(state: SchedulerState) -> Iterator[Model]:
    """Victims of the swap that have not made room yet."""
    assert state.swap is not None
    for worker in state.swap.victims:
        victim = state.workers.get(worker)
        if victim is not None and (
            victim.draining or state.account(victim).leaving or state.account(victim).trimming
        ):
            yield victim


def _until_left(state: SchedulerState, now: float) -> float:
    """Until the last victim of the swap has exited: what runs on it ends, and it exits."""
    longest = 0.0
    for victim in _leaving(state):
        began = max((r.dispatched for r in victim.run.requests.values() if r.dispatched is not None), default=None)
        left = 0.0 if began is None else max(0.0, began + victim.footprint.run_seconds.value - now)
        longest = max(longest, left + victim.footprint.exit_seconds.value)
    return longest
