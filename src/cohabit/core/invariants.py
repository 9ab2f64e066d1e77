"""What must hold after every event. Called by tests after each, and by the shell when told to debug."""

from cohabit.core.lifecycle import State
from cohabit.core.state import Books


class InvariantBroken(AssertionError):
    """The books contradict themselves: a bug in the core."""


def check(books: Books) -> None:
    """Raise InvariantBroken with what does not hold."""
    ledger = books.ledger
    _must(set(ledger.accounts) == set(books.workers), "an account for every worker and no other")
    slots = 0
    for worker, model in books.workers.items():
        account = ledger.accounts[worker]
        _must(model.worker == worker, f"{model.name} knows its worker")
        _must(model.state in {State.STARTING, State.READY, State.STOPPING}, f"{model.name} has a live state")
        _must(
            (account.load > 0) == (model.lifecycle.state is State.STARTING) or account.leaving,
            "load is booked",
        )
        _must((account.working > 0) <= model.busy, f"{model.name} books working only while busy")
        _must(set(model.running) == set().union(*model.batches), f"{model.name} runs what its batches hold")
        _must(len(model.batches) <= model.policy.concurrency, f"{model.name} keeps its concurrency")
        slots += model.policy.slots if model.busy else 0
    _must(slots == ledger.slots_used, "slots are taken by busy models only")
    _must(slots <= ledger.slots, "no more slots are taken than there are")
    waiting = [request.id for model in books.models.values() for request in model.queue]
    running = [request for model in books.models.values() for request in model.running]
    _must(sorted(waiting + running) == sorted(books.requests), "every request waits or runs, once")
    for model in books.models.values():
        _must(not model.running or model.worker is not None, f"{model.name} runs nothing without a worker")
        _must(not model.draining or books.claim is not None, f"{model.name} drains only for a claim")


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise InvariantBroken(what)
