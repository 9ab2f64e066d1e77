"""Copies of weights in host memory, from which models on a card wake: the second tier, with books of its own.

An engine that keeps a copy makes it while it loads and gives it up with its process, ready or asleep. So a copy is
booked when a load is decided, and whoever gets none can only be stopped. Not copied is what never leaves (pinned).

Room for a newcomer's copy is made by sleepers that nobody waits for: they are stopped, the least score first, and
only while theirs is less than the newcomer's own. It is GDSF's with the seconds that a copy spares (a load less a
wake) for C and its bytes for S. Where they do not suffice none is stopped, and the newcomer does without.
"""

from collections.abc import Iterator, Mapping

from cohabit.core.eviction import Policy, spared_by_waking, worth
from cohabit.core.exits import Exit
from cohabit.core.lifecycle import State
from cohabit.core.state import Books, Model


def copy_bytes(model: Model) -> int:
    """Expected of a copy: as measured or estimated, else as much as the model itself."""
    footprint = model.footprint
    return footprint.resident.size if footprint.copy is None else footprint.copy.size


def is_copied(books: Books, model: Model) -> bool:
    """Whether a copy is to be made in the load that begins now."""
    return _wanted(model) and books.ledger.copied + copy_bytes(model) <= books.ledger.host_cache


def in_the_way(books: Books, newcomer: Model, exits: Mapping[int, Exit], policy: Policy, now: float) -> list[int]:
    """Workers that must be gone, beside those that make room on the device, before the newcomer can be copied.

    None where it needs no copy or could not have one all the same.
    """
    ledger = books.ledger
    if newcomer.state is State.ASLEEP or not _wanted(newcomer) or is_copied(books, newcomer):
        return []
    going = [
        worker
        for worker in ledger.copies
        if exits.get(worker) is Exit.STOP or books.workers[worker].state is State.STOPPING
    ]
    missing = ledger.copied + copy_bytes(newcomer) - ledger.host_cache - sum(ledger.copies[w] for w in going)
    own = now if policy is Policy.LRU else books.inflation + _worth(newcomer, max(1, len(newcomer.queue)))
    for worker, sleeper in _sleepers(books, policy):
        if missing <= 0 or _score(sleeper, policy) >= own:
            break
        if worker not in going and not sleeper.queue:
            missing -= ledger.copies[worker]
            going.append(worker)
    return going if missing <= 0 else []


def too_many(books: Books, policy: Policy) -> Iterator[Model]:
    """Sleepers to be stopped because copies turned out larger than they were thought to be."""
    ledger = books.ledger
    over = ledger.copied - ledger.host_cache
    over -= sum(size for worker, size in ledger.copies.items() if books.workers[worker].state is State.STOPPING)
    for worker, sleeper in _sleepers(books, policy):
        if over <= 0:
            return
        over -= ledger.copies[worker]
        yield sleeper


def _wanted(model: Model) -> bool:
    return model.policy.copies and not model.policy.pin and not model.sleep_failed


def _sleepers(books: Books, policy: Policy) -> list[tuple[int, Model]]:
    """Those that are held by a copy, the least score first."""
    asleep = [
        (worker, model)
        for worker, model in books.workers.items()
        if model.state is State.ASLEEP and worker in books.ledger.copies and not model.policy.pin
    ]
    return sorted(asleep, key=lambda one: _score(one[1], policy))


def _score(model: Model, policy: Policy) -> float:
    return model.last_used if policy is Policy.LRU else model.inflation + _worth(model, model.dispatches)


def _worth(model: Model, uses: int) -> float:
    return worth(uses, spared_by_waking(model), copy_bytes(model))
