"""What a waiting request waits for, and about when it will be served. Estimates, from measured averages."""

import math
from collections.abc import Iterable, Iterator, Sequence

from cohabit.core.dispatch import blocked_by
from cohabit.core.eviction import entry_seconds
from cohabit.core.lifecycle import COMING, State
from cohabit.core.reservation import Reservation
from cohabit.core.room import infeasible
from cohabit.core.state import Books, Model
from cohabit.core.victims import Search


def expected_wait(books: Books, model: Model, position: int, now: float) -> float:
    """Seconds until the request at this place of its model's queue (from 1) is probably given to the worker."""
    (wait,) = expected_waits(books, model, [position], now)
    return wait


def expected_waits(books: Books, model: Model, positions: Iterable[int], now: float) -> Iterator[float]:
    """The same for many places, of which each costs little."""
    ready = _until_ready(books, model, now)
    at_once = model.policy.concurrency * model.policy.max_batch
    free = (model.policy.concurrency - len(model.batches)) * model.policy.max_batch
    rivals = [other for other in books.runnable.values() if other is not model and not other.running]
    share = _share(books, model, rivals)
    needs_slots = not model.running and books.ledger.slots_used + model.policy.slots > books.ledger.slots
    for position in positions:
        rounds = math.ceil(max(0, position - free) / at_once)
        rounds = max(1, rounds) if needs_slots else rounds
        yield ready + rounds * model.footprint.run_seconds.value / share


def waits_for(books: Books, model: Model, now: float) -> str:
    """What keeps the next request of a model from running."""
    claim, state = books.claim, model.state
    if state is State.READY:
        return blocked_by(books, model, now) or ("its turn after others" if model.queue.defers else "its turn")
    if state in COMING:
        return "the model to be loaded" if state is State.STARTING else "the model to be woken"
    if state in {State.STOPPING, State.FALLING_ASLEEP}:
        return "the model to leave before it can be brought back"
    if now < model.not_before:
        return "the pause after a failed start"
    if books.unreadable is not None:
        return "the device to be read again"
    if infeasible(books, model):
        return "memory that others than our models hold, or that is pinned"
    if claim is not None and claim.model == model.name:
        names = [victim.name for victim in _leaving(books)]
        return f"room: {', '.join(names)} must leave" if names else "memory to be seen free"
    if claim is not None:
        return f"{claim.model} to be brought in first"
    if model.behind is not None:
        return (
            f"{model.behind.name} to be brought in first, which has waited longer and would have to wait still longer"
        )
    if model.yields:
        return "room that is free, or idle for longer than bringing back what is there costs"
    room_in = _room_in(books, model, now)
    if room_in is None:
        return "the part of its batch that another model works on"
    return f"others to have served their time; room is made in {room_in:.1f} s at the latest"


def _share(books: Books, model: Model, rivals: Sequence[Model]) -> float:
    """Of the device's time, while others share its slots."""
    if not rivals:
        return 1.0
    weights = model.policy.priority + sum(other.policy.priority for other in rivals)
    return min(1.0, books.ledger.slots * model.policy.priority / weights)


def _until_ready(books: Books, model: Model, now: float) -> float:
    if model.state is State.READY:
        return 0.0
    enter = entry_seconds(model)
    if model.state in COMING:
        return max(0.0, enter - (now - model.lifecycle.since))
    claim = books.claim
    if claim is not None and claim.model == model.name:
        return _until_left(books, now) + enter
    wait = max(0.0, model.not_before - now)
    if claim is not None:
        wait = max(wait, _until_left(books, now) + entry_seconds(books.models[claim.model]))
    elif model.behind is not None:
        wait = max(wait, (_room_in(books, model.behind, now) or 0.0) + entry_seconds(model.behind))
    elif not model.yields:
        wait = max(wait, _room_in(books, model, now) or 0.0)
    return wait + enter


def _room_in(books: Books, model: Model, now: float) -> float | None:
    """Seconds until others have served for long enough to make room for it; None: that is not what it waits for."""
    reservation = Reservation.of(Search.of(books, model, now))
    return None if reservation is None else max(0.0, reservation.at - now)


def _leaving(books: Books) -> Iterator[Model]:
    """Victims of the claim that have not made room yet."""
    assert books.claim is not None
    for worker in books.claim.victims:
        victim = books.workers.get(worker)
        if victim is not None and (
            victim.draining or books.account(victim).leaving or books.account(victim).trimming
        ):
            yield victim


def _until_left(books: Books, now: float) -> float:
    """Until the last victim of the claim is gone: what runs on it ends, and it exits."""
    longest = 0.0
    for victim in _leaving(books):
        began = max((r.dispatched for r in victim.running.values() if r.dispatched is not None), default=None)
        left = 0.0 if began is None else max(0.0, began + victim.footprint.run_seconds.value - now)
        longest = max(longest, left + victim.footprint.exit_seconds.value)
    return longest
