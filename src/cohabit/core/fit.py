"""Does it fit? All arithmetic between the ledger and a model that wants in or wants to run.

What may be resident together is bounded twice: a load must fit beside everything held while it lasts, and
afterwards any one of the residents must be able to run. Otherwise two models could be brought in that then
block each other for ever.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cohabit.core.footprints import Footprint
from cohabit.core.ledger import Account
from cohabit.core.lifecycle import STAYS, State
from cohabit.core.state import Model, Reclaim, SchedulerState


def run_extra(account: Account, footprint: Footprint) -> int:
    """Bytes a run adds to what the model holds at rest, once what its last run left is known."""
    most = footprint.peak - account.load if account.load else footprint.max_activation - account.cached
    return max(0, most)


def extra_now(state: SchedulerState, model: Model, units: int) -> int:
    """Bytes to be booked for a run on an idle worker at this moment: it reuses what its last run left booked."""
    account = state.account(model)
    return max(0, model.footprint.activation_for(units) - max(account.cached, account.unconfirmed))


def next_units(model: Model) -> int:
    """Of the next run of a model for which something waits; unknown (0) where runs of one engine overlap."""
    return model.queue.peek().units if model.policy.concurrency == 1 else 0


def need(state: SchedulerState, model: Model) -> int:
    """Bytes the model must still be able to book before it can serve."""
    if model.worker is None:
        return model.footprint.peak
    if model.state in {State.SLEEPING, State.PREWARMED}:
        return max(0, model.footprint.peak - state.account(model).at_rest)
    return extra_now(state, model, next_units(model))


def sleep_resident(model: Model) -> int:
    """Bytes expected to stay of a model that falls asleep."""
    return (
        model.footprint.sleep_resident.size
        if model.footprint.sleep_resident is not None
        else model.footprint.idle.size
    )


def bytes_left(state: SchedulerState, worker: int, chosen: Reclaim | None) -> int:
    """Bytes that a worker holds at rest once it has made room in this way, or what it is about has ended."""
    account = state.ledger.accounts[worker]
    if chosen is Reclaim.STOP:
        return 0
    if chosen is Reclaim.SLEEP:
        return min(account.afterwards, sleep_resident(state.workers[worker]))
    return account.afterwards - (account.cached if chosen is Reclaim.TRIM else 0)


def stays(state: SchedulerState, model: Model) -> bool:
    """Whether a model with a process is in or about to be, and not about to leave."""
    return not state.account(model).leaving and model.lifecycle.state in STAYS


def shortfall(state: SchedulerState, model: Model, reclaims: Mapping[int, Reclaim]) -> int:
    """Bytes missing to bring the model in, or to let it run, once these workers have made room, what is leaving has
    left and the others are idle. Zero or less: it fits."""
    rest = largest = 0
    for worker, other in state.workers.items():
        if other is model:
            continue
        account = state.ledger.accounts[worker]
        extra, chosen = 0, reclaims.get(worker)
        if chosen is Reclaim.TRIM:
            extra = other.footprint.max_activation
        elif chosen is None and stays(state, other):
            extra = run_extra(account, other.footprint)
        rest += bytes_left(state, worker, chosen)
        largest = max(largest, extra)
    return peak_beside(state, model, rest, largest) - state.ledger.effective_budget


def peak_beside(state: SchedulerState, model: Model, rest: int, largest: int) -> int:
    """Bytes held at most while the model comes in and after that, or while it runs, beside others that hold ``rest``
    and of whose runs one adds ``largest``."""
    footprint = model.footprint
    if model.state is State.READY:
        account = state.account(model)
        return rest + max(account.at_rest, account.idle + footprint.activation_for(next_units(model)))
    return rest + max(footprint.load_need, footprint.idle.size + max(footprint.max_activation, largest))


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What is held once all are idle and what is leaving has left, and the most that one run adds. The same for all
    who wait, so that it is summed up once for them."""

    rest: int
    largest: int

    @classmethod
    def of(cls, state: SchedulerState) -> "Occupancy":
        """As the books are now."""
        rest = largest = 0
        for worker, other in state.workers.items():
            account = state.ledger.accounts[worker]
            rest += account.afterwards
            if stays(state, other):
                largest = max(largest, run_extra(account, other.footprint))
        return cls(rest, largest)

    def shortfall(self, state: SchedulerState, model: Model) -> int:
        """As ``shortfall`` without anybody making room."""
        footprint = model.footprint
        if model.out:
            own = state.account(model).afterwards if model.worker is not None else 0
            activation = max(footprint.max_activation, self.largest)
            most = self.rest - own + max(footprint.load_need, footprint.idle.size + activation)
        else:
            account = state.account(model)
            most = self.rest + max(0, footprint.activation_for(next_units(model)) - account.cached)
        return most - state.ledger.effective_budget

    def tight(self, state: SchedulerState) -> bool:
        """Whether any model that is ready could lack the room to run."""
        return self.rest + self.largest > state.ledger.effective_budget


def infeasible(state: SchedulerState, model: Model) -> bool:
    """Whether the model could not be served now even if everyone but the pinned left."""
    rest = largest = 0
    for other in state.pinned:
        if other is not model and other.worker is not None:
            account = state.account(other)
            rest += account.afterwards
            largest = max(largest, run_extra(account, other.footprint))
    return peak_beside(state, model, rest, largest) > state.ledger.effective_budget


def awaits_device(state: SchedulerState, model: Model) -> bool:
    """Whether a model with a queue lacks room, and can be given none because the device cannot be read."""
    if state.unreadable is None:
        return False
    if model.state is State.READY:
        return not fits_now(state, extra_now(state, model, next_units(model)))
    return model.out


def fits_now(state: SchedulerState, extra: int) -> bool:
    """Whether ``extra`` bytes may be booked at this moment."""
    return state.ledger.reserved + extra <= state.ledger.effective_budget


def leaves_room_for_swap(state: SchedulerState, model: Model, extra: int) -> bool:
    """Whether the model may book ``extra`` bytes although room is being made for another one.

    It may if, once the victims have made room and with this model running, the claim is still satisfied.
    """
    swap = state.swap
    if swap is None or swap.model == model.policy.name:
        return True
    freed = 0
    for worker, chosen in swap.victims.items():
        account = state.ledger.accounts.get(worker)
        if account is not None and worker != model.worker:  # what it gives back it would take again
            freed += freed_bytes(state, worker, chosen)
    return state.ledger.reserved - freed + extra + swap.need <= state.ledger.effective_budget


def freed_bytes(state: SchedulerState, worker: int, chosen: Reclaim) -> int:
    """Bytes of what is booked for a worker now that come free if it makes room in this way."""
    account = state.ledger.accounts[worker]
    if chosen is Reclaim.TRIM:
        return account.held - account.idle
    if chosen is Reclaim.STOP:
        return account.held
    return max(0, account.held - sleep_resident(state.workers[worker]))


def missing_now(state: SchedulerState, waiter: Model, reclaims: Mapping[int, Reclaim]) -> int:
    """Bytes missing if the chosen had made room but what runs elsewhere ran on."""
    freed = sum(freed_bytes(state, worker, chosen) for worker, chosen in reclaims.items())
    leaving = sum(a.held - a.remains for a in state.ledger.accounts.values() if a.leaving)
    return state.ledger.reserved - freed - leaving + need(state, waiter) - state.ledger.effective_budget


def awaits_reading(state: SchedulerState) -> bool:
    """Whether somebody may be let in once the device shows what has come free. Readings are not for nothing: of
    five workers one takes 11 ms."""
    ledger = state.ledger
    if ledger.unreturned or not fits_now(state, 0):
        return True
    if state.swap is None and all(fits_now(state, need(state, model)) for model in state.waiters):
        return False
    if ledger.effective_budget < ledger.budget:
        return True  # others may have let go of theirs, or it was a load of our own
    return any(account.unconfirmed for account in ledger.accounts.values())


def never_fits(state: SchedulerState, model: Model) -> bool:
    """Whether the model cannot be served even with the device to itself and the pinned ones."""
    return model.footprint.peak > max_bytes_for(state, model)


def max_bytes_for(state: SchedulerState, model: Model) -> int:
    """Bytes that the model may ever be given: the budget less what the pinned ones hold."""
    return state.ledger.budget - pinned_idle_bytes(state, model)


def cap_all(state: SchedulerState) -> None:
    """A pinned model holds more than before: what others' runs taught must not put those out of service."""
    for model in state.models.values():
        model.footprint.cap(max_bytes_for(state, model))


def pinned_idle_bytes(state: SchedulerState, model: Model) -> int:
    """Bytes that the pinned models hold, this one apart."""
    return sum(other.footprint.idle.size for other in state.pinned if other is not model)
