"""Does it fit? All arithmetic between the ledger and a model that wants in or wants to run.

What may be resident together is bounded twice: a load must fit beside everything held while it lasts, and
afterwards any one of the residents must be able to run. Otherwise two models could be loaded that then
block each other without end.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from cohabit.core.footprints import Footprint
from cohabit.core.ledger import Account
from cohabit.core.lifecycle import STAYS, State
from cohabit.core.model_state import Model, Reclaim
from cohabit.core.state import SchedulerState

NO_RECLAIMS: Mapping[int, Reclaim] = MappingProxyType({})


def run_extra(account: Account, footprint: Footprint) -> int:
    """Bytes a run adds to what the model holds at rest, once what its last run left is known."""
    most = footprint.peak - account.load if account.load else footprint.max_activation - account.cached
    return max(0, most)


def extra_now(state: SchedulerState, model: Model, units: int) -> int:
    """Bytes to reserve for a run on an idle worker now: it reuses what its last run left reserved."""
    account = state.account(model)
    return max(0, model.footprint.activation_for(units) - max(account.cached, account.unconfirmed))


def next_units(model: Model) -> int:
    """Of the next run of a model for which something waits; unknown (0) where runs of one engine overlap."""
    return model.queue.peek().units if model.policy.concurrency == 1 else 0


def need(state: SchedulerState, model: Model) -> int:
    """Bytes that must still be reserved for the model before it can serve."""
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


def bytes_left(state: SchedulerState, worker: int, chosen: Reclaim) -> int:
    """Bytes that a worker holds at rest after it has made room in this way."""
    account = state.ledger.accounts[worker]
    if chosen is Reclaim.STOP:
        return 0
    if chosen is Reclaim.SLEEP:
        return min(account.afterwards, sleep_resident(state.workers[worker]))
    return account.afterwards - account.cached


def stays(account: Account, model: Model) -> bool:
    """Whether a model with a process is ready or will be, and is not told to leave."""
    return not account.leaving and model.lifecycle.state in STAYS


@dataclass(frozen=True, slots=True)
class Occupancy:
    """What workers hold once all are idle, and the most that one run of any of them adds. Bytes."""

    idle: int = 0
    run: int = 0

    @classmethod
    def of(
        cls, state: SchedulerState, *, without: Model | None = None, reclaims: Mapping[int, Reclaim] = NO_RECLAIMS
    ) -> "Occupancy":
        """Of all workers but one, once ``reclaims`` have made room and what is leaving has left."""
        idle = run = 0  # this is the core's innermost loop
        accounts = state.ledger.accounts
        for worker, model in state.workers.items():
            if model is without:
                continue
            chosen = reclaims.get(worker)
            if chosen is None:
                account = accounts[worker]
                idle += account.afterwards
                if not stays(account, model):
                    continue
                extra = run_extra(account, model.footprint)
            else:
                idle += bytes_left(state, worker, chosen)
                extra = model.footprint.max_activation if chosen is Reclaim.TRIM else 0
            run = max(run, extra)
        return cls(idle, run)

    @classmethod
    def of_pinned(cls, state: SchedulerState, *, without: Model) -> "Occupancy":
        """As if no others were there."""
        found = cls()
        for model in state.pinned:
            if model is not without and model.worker is not None:
                account = state.account(model)
                found = found.plus(account.afterwards, run_extra(account, model.footprint))
        return found

    def plus(self, idle: int, run: int) -> "Occupancy":
        return Occupancy(self.idle + idle, max(self.run, run))

    def peak_with(self, state: SchedulerState, model: Model) -> int:
        """Bytes held at most while a model is loaded beside these and after that; if it is ready, while it runs."""
        footprint = model.footprint
        if model.state is State.READY:
            account = state.account(model)
            return self.idle + max(account.at_rest, account.idle + footprint.activation_for(next_units(model)))
        return self.idle + max(footprint.load_need, footprint.idle.size + max(footprint.max_activation, self.run))

    def shortfall(self, state: SchedulerState, model: Model) -> int:
        """Bytes missing to load one of these models, or to let it run. ``self`` is of all workers: it is summed up
        once for all that wait. Zero or less: it fits."""
        footprint = model.footprint
        if model.unloaded:
            own = state.account(model).afterwards if model.worker is not None else 0
            most = Occupancy(self.idle - own, self.run).peak_with(state, model)
        else:
            account = state.account(model)
            most = self.idle + max(0, footprint.activation_for(next_units(model)) - account.cached)
        return most - state.ledger.effective_budget

    def tight(self, state: SchedulerState) -> bool:
        """Whether any model that is ready could lack the room to run."""
        return self.idle + self.run > state.ledger.effective_budget


def shortfall(state: SchedulerState, model: Model, reclaims: Mapping[int, Reclaim]) -> int:
    """Bytes missing to load the model, or to let it run, once these workers have made room, what is leaving has left
    and the others are idle. Zero or less: it fits."""
    occupancy = Occupancy.of(state, without=model, reclaims=reclaims)
    return occupancy.peak_with(state, model) - state.ledger.effective_budget


def infeasible(state: SchedulerState, model: Model) -> bool:
    """Whether the model could not be served now even if all but the pinned left."""
    return Occupancy.of_pinned(state, without=model).peak_with(state, model) > state.ledger.effective_budget


def awaits_device(state: SchedulerState, model: Model) -> bool:
    """Whether a model with a queue lacks room, and can be given none because the device cannot be read."""
    if state.unreadable is None:
        return False
    if model.state is State.READY:
        return not fits_now(state, extra_now(state, model, next_units(model)))
    return model.unloaded


def fits_now(state: SchedulerState, extra: int) -> bool:
    """Whether ``extra`` bytes may be reserved now."""
    return state.ledger.reserved + extra <= state.ledger.effective_budget


def leaves_room_for_swap(state: SchedulerState, model: Model, extra: int) -> bool:
    """Whether the model may book ``extra`` bytes although room is being made for another one.

    It may if, once the victims have made room and with this model running, the swap is still satisfied.
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
    """Bytes reserved for a worker now that come free if it makes room in this way."""
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
    if state.swap is None and all(fits_now(state, need(state, state.models[name])) for name in state.waiters):
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
