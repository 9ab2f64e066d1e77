"""What must hold after every event. Called by tests after each, and by the shell when told to debug."""

from cohabit.core.lifecycle import COMING, State
from cohabit.core.model_state import Model, Reclaim
from cohabit.core.state import SchedulerState

_GONE = frozenset({State.STOPPED, State.FAILED})


class InvariantBroken(AssertionError):
    """The state contradicts itself: a bug in the core."""


def check(state: SchedulerState) -> None:
    """Raise InvariantBroken with what does not hold."""
    ledger = state.ledger
    _must(set(ledger.accounts) == set(state.workers), "an account for every worker and no other")
    for worker, model in state.workers.items():
        _must(model.worker == worker, f"{model.name} knows its worker")
        _check_worker(state, model)
    held = sum(account.held for account in ledger.accounts.values())
    _must(held + ledger.unreturned == ledger.reserved, "reserved is the sum of what is held")
    _must(ledger.copied == sum(ledger.copies.values()), "the copies are what they are together")
    _must(ledger.copies.keys() <= ledger.accounts.keys(), "copies are given up with their process")
    slots = sum(model.policy.slots for model in state.workers.values() if model.busy)
    _must(slots == ledger.slots_used, "slots are taken by busy models only")
    _must(slots <= ledger.slots, "no more slots are taken than there are")
    waiting = [request.id for model in state.models.values() for request in model.queue]
    running = [request for model in state.models.values() for request in model.run.requests]
    _must(sorted(waiting + running) == sorted(state.requests), "every request waits or runs, once")
    for model in state.models.values():
        _must((model.state in _GONE) == (model.worker is None), f"{model.name} has a process or is stopped")
        _must(not model.run.requests or model.worker is not None, f"{model.name} runs nothing without a worker")
        _must(not model.draining or state.swap is not None, f"{model.name} drains only for a swap")
        _check_derived(state, model)


def _check_worker(state: SchedulerState, model: Model) -> None:
    account, worker_state = state.account(model), model.state
    loading = worker_state in COMING
    _must((account.load > 0) == loading or account.leaving, f"{model.name} reserves a load while it loads")
    _must(
        (worker_state is State.PREWARMED) == (state.prewarmed is model),
        f"{model.name} is known to wait with its process",
    )
    _must((account.activation > 0) <= model.busy, f"{model.name} reserves activation only while busy")
    _must(
        account.leaving == (worker_state in {State.STOPPING, State.ENTERING_SLEEP}), f"{model.name} leaves or stays"
    )
    _must(not account.trimming or not model.busy, f"{model.name} runs nothing while it is trimmed")
    _must(set(model.run.requests) == set().union(*model.run.batches), f"{model.name} runs what its batches hold")
    copied = model.worker in state.ledger.copies
    _must(not copied or model.policy.copies, f"{model.name} has a copy only if it can wake from it")
    _must(len(model.run.batches) <= model.policy.concurrency, f"{model.name} keeps its concurrency")


def _check_derived(state: SchedulerState, model: Model) -> None:
    name, ready, waits = model.name, model.state is State.READY, bool(model.queue)
    trimming = model.worker is not None and state.account(model).trimming
    free = not model.draining and model.unload_requested is None
    runnable = ready and waits and free and not trimming
    _must((name in state.runnable) == runnable, f"{name} is in the ring if it could be given work")
    _must((name in state.starved) == model.starved <= runnable, f"{name} is kept out only while it could run")
    _must(not model.starved or not model.queue.best_effort, f"{name} is kept out of what it would not give way")
    interactive = sum(not request.background for request in model.run.requests.values())
    _must(model.run.interactive == interactive, f"{name} knows how much of what runs is interactive")
    _must(model.best_effort == model.only_background, f"{name} yields if all it does is background work")
    _must(model.queue.urgent <= (model.queue.background.count > 0), f"{name} has background work if that is urgent")
    lacks = model.unloaded and (waits or model.load_requested)
    lacks = lacks or (ready and waits and not model.run.requests and free)
    _must((model.name in state.waiters) == lacks, f"{name} is among the waiters if it lacks room")
    _must((model.worker in state.busy) == model.busy, f"{name} is charged while it is busy")
    _must(
        (name in state.leaving) == (model.unload_requested is not None),
        f"{name} is known to have been told to leave",
    )
    swap = state.swap
    if model.draining:
        chosen = swap.victims.get(model.worker or 0) if swap is not None else None
        _must(chosen in {Reclaim.SLEEP, Reclaim.STOP}, f"{name} drains because it was chosen")


def _must(holds: bool, what: str) -> None:
    if not holds:
        raise InvariantBroken(what)
