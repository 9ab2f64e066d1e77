"""Does it fit? All arithmetic between the ledger and a model that wants in or wants to run.

What may be resident together is bounded twice: a load must fit beside everything held while it lasts, and
afterwards any one of the residents must be able to run. Otherwise two models could be brought in that then
block each other for ever.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cohabit.core.exits import Exit
from cohabit.core.footprints import Footprint
from cohabit.core.ledger import Account
from cohabit.core.lifecycle import STAYS, State
from cohabit.core.state import Books, Model


def running_extra(account: Account, footprint: Footprint) -> int:
    """Bytes a run adds to what the model holds at rest, once what its last run left is known."""
    most = footprint.peak - account.load if account.load else footprint.most_working - account.cached
    return max(0, most)


def extra_now(books: Books, model: Model, units: int) -> int:
    """Bytes to be booked for a run on an idle worker at this moment: it reuses what its last run left booked."""
    account = books.account(model)
    return max(0, model.footprint.working_for(units) - max(account.cached, account.unconfirmed))


def next_units(model: Model) -> int:
    """Of the next run of a model for which something waits; unknown (0) where runs of one engine overlap."""
    return model.queue.peek().units if model.policy.concurrency == 1 else 0


def need(books: Books, model: Model) -> int:
    """Bytes the model must still be able to book before it can serve."""
    if model.worker is None:
        return model.footprint.peak
    if model.state in {State.ASLEEP, State.SPAWNED}:
        return max(0, model.footprint.peak - books.account(model).at_rest)
    return extra_now(books, model, next_units(model))


def residue(model: Model) -> int:
    """Bytes expected to stay of a model that falls asleep."""
    return model.footprint.residue.size if model.footprint.residue is not None else model.footprint.resident.size


def left_by(books: Books, worker: int, chosen: Exit | None) -> int:
    """Bytes that a worker holds at rest once it has made room in this way, or what it is about has ended."""
    account = books.ledger.accounts[worker]
    if chosen is Exit.STOP:
        return 0
    if chosen is Exit.SLEEP:
        return min(account.afterwards, residue(books.workers[worker]))
    return account.afterwards - (account.cached if chosen is Exit.TRIM else 0)


def stays(books: Books, model: Model) -> bool:
    """Whether a model with a process is in or about to be, and not about to leave."""
    return not books.account(model).leaving and model.lifecycle.state in STAYS


def shortfall(books: Books, model: Model, exits: Mapping[int, Exit]) -> int:
    """Bytes missing to bring the model in, or to let it run, once these workers have made room, what is leaving has
    left and the others are idle. Zero or less: it fits."""
    rest = largest = 0
    for worker, other in books.workers.items():
        if other is model:
            continue
        account = books.ledger.accounts[worker]
        extra, chosen = 0, exits.get(worker)
        if chosen is Exit.TRIM:
            extra = other.footprint.most_working
        elif chosen is None and stays(books, other):
            extra = running_extra(account, other.footprint)
        rest += left_by(books, worker, chosen)
        largest = max(largest, extra)
    return taken_beside(books, model, rest, largest) - books.ledger.effective_budget


def taken_beside(books: Books, model: Model, rest: int, largest: int) -> int:
    """Bytes held at most while the model comes in and after that, or while it runs, beside others that hold ``rest``
    and of whose runs one adds ``largest``."""
    footprint = model.footprint
    if model.state is State.READY:
        account = books.account(model)
        return rest + max(account.at_rest, account.resident + footprint.working_for(next_units(model)))
    return rest + max(footprint.load_need, footprint.resident.size + max(footprint.most_working, largest))


@dataclass(frozen=True, slots=True)
class Standing:
    """What is held once all are idle and what is leaving has left, and the most that one run adds. The same for all
    who wait, so that it is summed up once for them."""

    rest: int
    largest: int

    @classmethod
    def of(cls, books: Books) -> "Standing":
        """As the books are now."""
        rest = largest = 0
        for worker, other in books.workers.items():
            account = books.ledger.accounts[worker]
            rest += account.afterwards
            if stays(books, other):
                largest = max(largest, running_extra(account, other.footprint))
        return cls(rest, largest)

    def shortfall(self, books: Books, model: Model) -> int:
        """As ``shortfall`` without anybody making room."""
        footprint = model.footprint
        if model.out:
            own = books.account(model).afterwards if model.worker is not None else 0
            working = max(footprint.most_working, self.largest)
            most = self.rest - own + max(footprint.load_need, footprint.resident.size + working)
        else:
            account = books.account(model)
            most = self.rest + max(0, footprint.working_for(next_units(model)) - account.cached)
        return most - books.ledger.effective_budget

    def tight(self, books: Books) -> bool:
        """Whether any model that is ready could lack the room to run."""
        return self.rest + self.largest > books.ledger.effective_budget


def infeasible(books: Books, model: Model) -> bool:
    """Whether the model could not be served now even if everyone but the pinned left."""
    rest = largest = 0
    for other in books.pinned:
        if other is not model and other.worker is not None:
            account = books.account(other)
            rest += account.afterwards
            largest = max(largest, running_extra(account, other.footprint))
    return taken_beside(books, model, rest, largest) > books.ledger.effective_budget


def awaits_device(books: Books, model: Model) -> bool:
    """Whether a model with a queue lacks room, and can be given none because the device cannot be read."""
    if books.unreadable is None:
        return False
    if model.state is State.READY:
        return not fits_now(books, extra_now(books, model, next_units(model)))
    return model.out


def fits_now(books: Books, extra: int) -> bool:
    """Whether ``extra`` bytes may be booked at this moment."""
    return books.ledger.reserved + extra <= books.ledger.effective_budget


def leaves_claim_alone(books: Books, model: Model, extra: int) -> bool:
    """Whether the model may book ``extra`` bytes although room is being made for another one.

    It may if, once the victims have made room and with this model running, the claim is still satisfied.
    """
    claim = books.claim
    if claim is None or claim.model == model.policy.name:
        return True
    freed = 0
    for worker, chosen in claim.victims.items():
        account = books.ledger.accounts.get(worker)
        if account is not None and worker != model.worker:  # what it gives back it would take again
            freed += frees(books, worker, chosen)
    return books.ledger.reserved - freed + extra + claim.need <= books.ledger.effective_budget


def frees(books: Books, worker: int, chosen: Exit) -> int:
    """Bytes of what is booked for a worker now that come free if it makes room in this way."""
    account = books.ledger.accounts[worker]
    if chosen is Exit.TRIM:
        return account.held - account.resident
    if chosen is Exit.STOP:
        return account.held
    return max(0, account.held - residue(books.workers[worker]))


def missing_now(books: Books, waiter: Model, exits: Mapping[int, Exit]) -> int:
    """Bytes missing if the chosen had made room but what runs elsewhere ran on."""
    freed = sum(frees(books, worker, chosen) for worker, chosen in exits.items())
    leaving = sum(a.held - a.remains for a in books.ledger.accounts.values() if a.leaving)
    return books.ledger.reserved - freed - leaving + need(books, waiter) - books.ledger.effective_budget


def awaits_reading(books: Books) -> bool:
    """Whether somebody may be let in once the device shows what has come free. Readings are not for nothing: of
    five workers one takes 11 ms."""
    ledger = books.ledger
    if ledger.unreturned or not fits_now(books, 0):
        return True
    if books.claim is None and all(fits_now(books, need(books, model)) for model in books.waiters):
        return False
    if ledger.effective_budget < ledger.budget:
        return True  # others may have let go of theirs, or it was a load of our own
    return any(account.unconfirmed for account in ledger.accounts.values())


def never_fits(books: Books, model: Model) -> bool:
    """Whether the model cannot be served even with the device to itself and the pinned ones."""
    return model.footprint.peak > most_for(books, model)


def most_for(books: Books, model: Model) -> int:
    """Bytes that the model may ever be given: the budget less what the pinned ones hold."""
    return books.ledger.budget - pinned_resident(books, model)


def cap_all(books: Books) -> None:
    """A pinned model holds more than before: what others' runs taught must not put those out of service."""
    for model in books.models.values():
        model.footprint.cap(most_for(books, model))


def pinned_resident(books: Books, model: Model) -> int:
    """Bytes that the pinned models hold, this one apart."""
    return sum(other.footprint.resident.size for other in books.pinned if other is not model)
