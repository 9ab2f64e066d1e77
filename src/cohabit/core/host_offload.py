"""Copies of weights in host memory, from which models on a card wake: the second tier, with a ledger of its own.

An engine that keeps a copy makes it while it loads and gives it up with its process, ready or asleep. So a copy is
reserved when a load is decided, and a model without one can only be stopped. Pinned models need no copy.

Room for the copy of a model that is to be loaded is made by sleepers without a queue: they are stopped, the least
score first, and only while it is less than that model's own. It is GDSF's with the seconds that a copy spares (a load
less a wake) for C and its bytes for S. Where they do not suffice none is stopped, and the load makes no copy.
"""

from collections.abc import Iterator, Mapping

from cohabit.core.eviction import Policy, spared_by_waking, worth
from cohabit.core.lifecycle import State
from cohabit.core.model_state import Model, Reclaim
from cohabit.core.state import SchedulerState


def host_copy_bytes(model: Model) -> int:
    """Expected of a copy: as measured or estimated, else as much as the model itself."""
    footprint = model.footprint
    return footprint.idle.size if footprint.host_copy is None else footprint.host_copy.size


def is_copied(state: SchedulerState, model: Model) -> bool:
    """Whether a copy is to be made in the load that begins now."""
    return _wanted(model) and state.ledger.copied + host_copy_bytes(model) <= state.ledger.host_cache


def host_victims(
    state: SchedulerState, newcomer: Model, reclaims: Mapping[int, Reclaim], policy: Policy, now: float
) -> list[int]:
    """Workers that must be gone, beside those that make room on the device, before the newcomer can be copied.

    Empty where it needs no copy, or could not have one even then.
    """
    ledger = state.ledger
    if newcomer.state is State.SLEEPING or not _wanted(newcomer) or is_copied(state, newcomer):
        return []
    going = [
        worker
        for worker in ledger.copies
        if reclaims.get(worker) is Reclaim.STOP or state.workers[worker].state is State.STOPPING
    ]
    missing = ledger.copied + host_copy_bytes(newcomer) - ledger.host_cache - sum(ledger.copies[w] for w in going)
    own = now if policy is Policy.LRU else state.inflation + _worth(newcomer, max(1, len(newcomer.queue)))
    for worker, sleeper in _sleepers(state, policy):
        if missing <= 0 or _score(sleeper, policy) >= own:
            break
        if worker not in going and not sleeper.queue:
            missing -= ledger.copies[worker]
            going.append(worker)
    return going if missing <= 0 else []


def over_host_cache(state: SchedulerState, policy: Policy) -> Iterator[Model]:
    """Sleepers to be stopped because copies turned out larger than they were thought to be."""
    ledger = state.ledger
    over = ledger.copied - ledger.host_cache
    over -= sum(size for worker, size in ledger.copies.items() if state.workers[worker].state is State.STOPPING)
    for worker, sleeper in _sleepers(state, policy):
        if over <= 0:
            return
        over -= ledger.copies[worker]
        yield sleeper


def _wanted(model: Model) -> bool:
    return model.policy.copies and not model.policy.pin and not model.health.sleep_failed


def _sleepers(state: SchedulerState, policy: Policy) -> list[tuple[int, Model]]:
    """Those that are held by a copy, the least score first."""
    asleep = [
        (worker, model)
        for worker, model in state.workers.items()
        if model.state is State.SLEEPING and worker in state.ledger.copies and not model.policy.pin
    ]
    return sorted(asleep, key=lambda one: _score(one[1], policy))


def _score(model: Model, policy: Policy) -> float:
    usage = model.usage
    return usage.last_used if policy is Policy.LRU else usage.inflation + _worth(model, usage.dispatches)


def _worth(model: Model, uses: int) -> float:
    return worth(uses, spared_by_waking(model), host_copy_bytes(model))
