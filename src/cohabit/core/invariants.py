"""What must hold after every event. Called by tests after each, and by the shell when told to debug."""

from cohabit.core.exits import Exit
from cohabit.core.lifecycle import COMING, State
from cohabit.core.state import Books, Model

_GONE = frozenset({State.STOPPED, State.FAILED})


class InvariantBroken(AssertionError):
    """The books contradict themselves: a bug in the core."""


def check(books: Books) -> None:
    """Raise InvariantBroken with what does not hold."""
    ledger = books.ledger
    _must(set(ledger.accounts) == set(books.workers), "an account for every worker and no other")
    for worker, model in books.workers.items():
        _must(model.worker == worker, f"{model.name} knows its worker")
        _check_worker(books, model)
    held = sum(account.held for account in ledger.accounts.values())
    _must(held + ledger.unreturned == ledger.reserved, "reserved is the sum of what is held")
    _must(ledger.copied == sum(ledger.copies.values()), "the copies are what they are together")
    _must(ledger.copies.keys() <= ledger.accounts.keys(), "copies are given up with their process")
    slots = sum(model.policy.slots for model in books.workers.values() if model.busy)
    _must(slots == ledger.slots_used, "slots are taken by busy models only")
    _must(slots <= ledger.slots, "no more slots are taken than there are")
    waiting = [request.id for model in books.models.values() for request in model.queue]
    running = [request for model in books.models.values() for request in model.running]
    _must(sorted(waiting + running) == sorted(books.requests), "every request waits or runs, once")
    for model in books.models.values():
        _must((model.state in _GONE) == (model.worker is None), f"{model.name} has a process or is stopped")
        _must(not model.running or model.worker is not None, f"{model.name} runs nothing without a worker")
        _must(not model.draining or books.claim is not None, f"{model.name} drains only for a claim")
        _check_derived(books, model)


def _check_worker(books: Books, model: Model) -> None:
    account, state = books.account(model), model.state
    loading = state in COMING
    _must((account.load > 0) == loading or account.leaving, f"{model.name} books a load while it loads")
    _must((state is State.SPAWNED) == (books.spawned is model), f"{model.name} is known to wait with its process")
    _must((account.working > 0) <= model.busy, f"{model.name} books working only while busy")
    _must(account.leaving == (state in {State.STOPPING, State.FALLING_ASLEEP}), f"{model.name} leaves or stays")
    _must(not account.trimming or not model.busy, f"{model.name} runs nothing while it is trimmed")
    _must(set(model.running) == set().union(*model.batches), f"{model.name} runs what its batches hold")
    copied = model.worker in books.ledger.copies
    _must(not copied or model.policy.copies, f"{model.name} has a copy only if it can wake from it")
    _must(len(model.batches) <= model.policy.concurrency, f"{model.name} keeps its concurrency")


def _check_derived(books: Books, model: Model) -> None:
    name, ready, waits = model.name, model.state is State.READY, bool(model.queue)
    trimming = model.worker is not None and books.account(model).trimming
    free = not model.draining and model.dismissed is None
    runnable = ready and waits and free and not trimming
    _must((name in books.runnable) == runnable, f"{name} is in the ring if it could be given work")
    _must((name in books.kept_out) == model.kept_out <= runnable, f"{name} is kept out only while it could run")
    _must(not model.kept_out or not model.queue.defers, f"{name} is kept out of what it would not give way")
    interactive = sum(not request.background for request in model.running.values())
    _must(model.interactive == interactive, f"{name} knows how much of what runs is interactive")
    _must(model.yields == model.background_only, f"{name} yields if all it does is background work")
    _must(model.queue.urgent <= (model.queue.background.count > 0), f"{name} has background work if that is urgent")
    lacks = model.out and (waits or model.wanted)
    lacks = lacks or (ready and waits and not model.running and free)
    _must((model in books.waiters) == lacks, f"{name} is among the waiters if it lacks room")
    _must((model.worker in books.busy) == model.busy, f"{name} is charged while it is busy")
    _must((name in books.dismissed) == (model.dismissed is not None), f"{name} is known to have been told to leave")
    claim = books.claim
    if model.draining:
        chosen = claim.victims.get(model.worker or 0) if claim is not None else None
        _must(chosen in {Exit.SLEEP, Exit.STOP}, f"{name} drains because it was chosen")


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise InvariantBroken(what)
