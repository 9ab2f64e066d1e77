"""Does it fit? All arithmetic between the ledger and a model that wants in or wants to run.

What may be resident together is bounded twice: a load must fit beside everything held while it lasts, and
afterwards any one of the residents must be able to run. Otherwise two models could be brought in that then
block each other for ever.
"""

from collections.abc import Collection

from cohabit.core.lifecycle import State
from cohabit.core.state import Books, Model


def at_rest(books: Books, model: Model) -> int:
    """Bytes a model holds while nothing runs on it."""
    assert model.worker is not None
    account = books.ledger.accounts[model.worker]
    return max(account.load, account.resident + account.cached)


def running_extra(books: Books, model: Model) -> int:
    """Bytes a run adds to what the model holds at rest, once what its last run left is known."""
    assert model.worker is not None
    account = books.ledger.accounts[model.worker]
    if model.state is State.STARTING:
        return max(0, model.footprint.peak - account.load)
    return max(0, model.footprint.working.size - account.cached)


def extra_now(books: Books, model: Model) -> int:
    """Bytes to be booked for a run on an idle worker at this moment: it reuses what its last run left booked."""
    assert model.worker is not None
    account = books.ledger.accounts[model.worker]
    return max(0, model.footprint.working.size - max(account.cached, account.unconfirmed))


def need(books: Books, model: Model) -> int:
    """Bytes the model must still be able to book before it can serve."""
    if model.worker is None:
        return model.footprint.peak
    return extra_now(books, model)


def shortfall(books: Books, model: Model, without: Collection[int]) -> int:
    """Bytes missing to bring the model in, or to let it run, once the workers ``without`` are gone and the
    others are idle. Zero or less: it fits."""
    others = [m for m in books.resident if m is not model and m.worker not in without]
    rest = sum(at_rest(books, other) for other in others)
    if model.worker is not None:
        most = rest + at_rest(books, model) + running_extra(books, model)
    else:
        footprint = model.footprint
        extras = [running_extra(books, other) for other in others if other.state is not State.STOPPING]
        afterwards = rest + footprint.resident.size + max([footprint.working.size, *extras])
        most = max(rest + footprint.load_need, afterwards)
    return most - books.ledger.effective_budget


def infeasible(books: Books, model: Model) -> bool:
    """Whether the model could not be served now even if everyone but the pinned left."""
    unpinned = [w for w, m in books.workers.items() if not m.policy.pin and m is not model]
    return shortfall(books, model, unpinned) > 0


def fits_now(books: Books, extra: int) -> bool:
    """Whether ``extra`` bytes may be booked at this moment."""
    return books.ledger.reserved + extra <= books.ledger.effective_budget


def leaves_claim_alone(books: Books, model: Model) -> bool:
    """Whether the model may run although room is being made for another one.

    It may if, the victims gone and this model running, the claim is still satisfied.
    """
    claim = books.claim
    if claim is None or claim.model == model.name:
        return True
    held = sum(
        books.ledger.accounts[m.worker].held
        for m in books.resident
        if m.worker is not None and m.worker not in claim.victims
    )
    extra = 0 if model.busy else extra_now(books, model)
    return held + extra + claim.need <= books.ledger.effective_budget


def never_fits(books: Books, model: Model) -> bool:
    """Whether the model cannot be served even with the device to itself and the pinned ones."""
    pinned = sum(m.footprint.resident.size for m in books.models.values() if m.policy.pin and m is not model)
    return model.footprint.peak + pinned > books.ledger.budget
