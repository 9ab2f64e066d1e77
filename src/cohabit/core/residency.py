"""Who is brought in, who leaves for it, and when. Branch 3 of the decision tree.

3.0  The books are over the budget (it shrank, or a worker outgrew them): idle workers leave, best victim first.
3.1  The claim's model needs it no more: it is withdrawn, victims that still drain go on serving.
3.2  There is a claim: its victims stop as they fall idle; it is fulfilled once everything it needs fits.
3.3  There is none: the most urgent waiter that may be served gets it. A waiter may take
     a. free room;
     b. idle workers that have been idle for longer than bringing them back costs;
     c. busy ones that have served ``patience`` times the cost of the switch, once the waiter itself has waited
        that cost (ski rental: rent until you have paid the price);
     d. anyone but the pinned, once it has waited ``max_wait``.
     As few leave as suffice: the best victims first, then those that turn out superfluous stay.
Never chosen: pinned, starting, brought in for waiters and not yet given anything, or at work on a part of the batch
whose other part is all that the waiter wants to come in for.
"""

from cohabit.core.claim import Claim
from cohabit.core.commands import StartWorker, StopCause, StopWorker
from cohabit.core.dispatch import SLOT, blocked_by
from cohabit.core.eviction import Policy, account_for, score
from cohabit.core.lifecycle import Move, State
from cohabit.core.room import at_rest, need, shortfall
from cohabit.core.state import Books, Model


def stop(books: Books, model: Model, cause: StopCause, why: str, now: float, *, kill: bool = False) -> None:
    """Tell a worker to leave."""
    assert model.worker is not None
    model.lifecycle.move(Move.STOP, now)
    model.stop_told = now
    model.draining = False
    books.ledger.accounts[model.worker].leaving = True
    if cause in {StopCause.EVICTED, StopCause.OVER_BUDGET}:
        model.last_eviction = why
    books.out.append(StopWorker(model.name, model.worker, cause, why, kill=kill))


def relieve(books: Books, policy: Policy, now: float) -> None:
    """Branch 3.0: come back within the budget by letting idle workers go."""
    leaving = sum(account.held for account in books.ledger.accounts.values() if account.leaving)
    over = books.ledger.reserved - leaving - books.ledger.effective_budget
    idle = [m for m in books.ready() if not m.busy and not m.policy.pin]
    for model in sorted(idle, key=lambda m: score(books, m, policy)):
        if over <= 0:
            return
        over -= at_rest(books, model)
        why = f"the books are over the budget; {account_for(books, model, policy)}"
        stop(books, model, StopCause.OVER_BUDGET, why, now)


def bring_in(books: Books, policy: Policy, now: float) -> list[float]:
    """Branches 3.1 to 3.3. Returns the times at which somebody not served now could be."""
    _withdraw_if_needless(books)
    _pursue(books, policy, now)
    later: list[float] = []
    for waiter in sorted(_waiters(books, now), key=lambda m: -_urgency(m, now)):
        if books.claim is not None:
            break
        later += _try_to_claim(books, waiter, policy, now)
        _pursue(books, policy, now)
    return later


def _lacks_room(model: Model) -> bool:
    """Whether somebody waits for it and it is not there, or is there and nothing runs on it."""
    if model.state in {State.STOPPED, State.FAILED}:
        return bool(model.queue) or model.wanted
    return model.state is State.READY and bool(model.queue) and not model.busy and not model.draining


def _waiters(books: Books, now: float) -> list[Model]:
    """Models with waiting requests that need room: to be loaded, or, though ready, to run at all."""
    return [
        model
        for model in books.models.values()
        if _lacks_room(model)
        and now >= model.not_before
        and (model.worker is None or shortfall(books, model, ()) > 0)
    ]


def _waited(model: Model, now: float) -> float:
    return max(0.0, now - model.waiting_since) if model.queue else 0.0


def _urgency(model: Model, now: float) -> float:
    """Time waited as a share of the time allowed; what is only preloaded comes last."""
    return _waited(model, now) / max(model.policy.max_wait, 1e-9) if model.queue else -1.0


def _withdraw_if_needless(books: Books) -> None:
    """Branch 3.1. Also withdrawn is a claim that its victims no longer satisfy: 3.3 decides anew."""
    claim = books.claim
    if claim is None:
        return
    model = books.models[claim.model]
    enough = shortfall(books, model, [*claim.victims, *_leaving(books)]) <= 0
    if _lacks_room(model) and enough:
        return
    for worker in claim.victims:
        if worker in books.workers:
            books.workers[worker].draining = False
    books.claim = None


def _leaving(books: Books) -> list[int]:
    return [worker for worker, account in books.ledger.accounts.items() if account.leaving]


def _try_to_claim(books: Books, waiter: Model, policy: Policy, now: float) -> list[float]:
    """Branch 3.3 for one waiter: form the claim if it may be, else say when it could."""
    waited = _waited(waiter, now)
    since = now - waited
    overdue_at = since + waiter.policy.max_wait
    overdue = bool(waiter.queue) and now >= overdue_at
    leaving = _leaving(books)
    chosen: list[Model] = []
    later: list[float] = []

    def missing() -> int:
        return shortfall(books, waiter, [*leaving, *(m.worker for m in chosen if m.worker is not None)])

    candidates = sorted(_evictable(books, waiter, overdue), key=lambda m: (m.busy, score(books, m, policy)))
    for victim in candidates:
        if missing() <= 0:
            break
        allowed_at = _may_leave_at(waiter, victim, since)
        if overdue or now >= allowed_at:
            chosen.append(victim)
        else:
            later.append(min(allowed_at, overdue_at))
    if missing() > 0:  # those that only an overdue waiter may take have no time of their own
        return [*later, overdue_at] if waiter.queue else later
    for victim in list(chosen):  # the cheapest set, without those that a later choice made superfluous
        chosen.remove(victim)
        if missing() > 0:
            chosen.append(victim)
    blocked = missing_now(books, waiter, chosen) > 0
    if blocked and not overdue and waited < _switch_cost(waiter, None):
        # Only runs of others are in the way: they are held up no sooner than a switch would be worth it.
        return [*later, since + _switch_cost(waiter, None)] if waiter.queue else later  # a preload: any event
    reason = "it waited max_wait" if overdue else "idle for longer than its return costs, or its patience is over"
    books.claim = Claim(
        waiter.name,
        since=now,
        need=need(books, waiter),
        victims=[m.worker for m in chosen if m.worker is not None],
        why=f"for {waiter.name}, waiting {waited:.1f} s: {reason}",
    )
    for victim in chosen:
        victim.draining = True
    return []


def missing_now(books: Books, waiter: Model, chosen: list[Model]) -> int:
    """Bytes missing if the chosen were gone but what runs elsewhere ran on."""
    held = sum(books.ledger.accounts[m.worker].held for m in chosen if m.worker is not None)
    leaving = sum(a.held for a in books.ledger.accounts.values() if a.leaving)
    return books.ledger.reserved - held - leaving + need(books, waiter) - books.ledger.effective_budget


def _evictable(books: Books, waiter: Model, overdue: bool) -> list[Model]:
    if not waiter.queue:
        return []  # a preload takes free room only
    return [
        m
        for m in books.ready()
        if m is not waiter
        and not m.policy.pin
        and (overdue or m.dispatches > 0 or not m.queue)
        and not _finishes_first(books, waiter, m)
    ]


def _finishes_first(books: Books, waiter: Model, other: Model) -> bool:
    """Whether all that wait for a model which is not in came in one batch that the other still works on.

    The batch is only answered when both are done, so nobody gains by a switch before the other has finished its
    part. The other must be at work or about to be: if it could not run for lack of room, each would wait for the
    other.
    """
    batches = {request.batch for request in waiter.queue}
    if waiter.worker is not None or len(batches) != 1 or None in batches:
        return False
    if not any(request.batch in batches for request in (*other.running.values(), *other.queue)):
        return False
    return other.busy or blocked_by(books, other) in {None, SLOT}


def _switch_cost(waiter: Model, victim: Model | None) -> float:
    leave = victim.footprint.exit_seconds.value if victim is not None else 0.0
    return waiter.footprint.load_seconds.value + leave


def _may_leave_at(waiter: Model, victim: Model, since: float) -> float:
    """Branches 3.3b and c: the time from which this victim may be chosen for this waiter."""
    cost = _switch_cost(waiter, victim)
    patient = max(since + cost, victim.came_in + victim.policy.patience * cost)
    if victim.busy or victim.queue:
        return patient
    return min(patient, victim.idle_since + victim.footprint.load_seconds.value)


def _pursue(books: Books, policy: Policy, now: float) -> None:
    """Branch 3.2."""
    claim = books.claim
    if claim is None:
        return
    for worker in claim.victims:
        victim = books.workers.get(worker)
        if victim is not None and victim.state is State.READY and not victim.busy:
            why = f"{claim.why}; {account_for(books, victim, policy)}"
            stop(books, victim, StopCause.EVICTED, why, now)
    model = books.models[claim.model]
    claim.need = need(books, model)
    if any(worker in books.workers for worker in claim.victims):
        return  # a victim that stops is never resurrected, and one that drains has been promised to go
    if model.worker is None and books.ledger.reserved + claim.need <= books.ledger.effective_budget:
        books.claim = None
        start(books, model, now)
    # A claim to run stays until the model does: branch 2 gives it its dispatch, 3.1 ends it.


def start(books: Books, model: Model, now: float) -> None:
    """Reserve a load and begin it."""
    books.worker_count += 1
    worker = books.worker_count
    model.lifecycle.move(Move.START, now)
    model.worker = worker
    model.wanted = False
    model.dispatches = 0
    books.workers[worker] = model
    books.ledger.open(worker, model.footprint.load_need)
    books.out.append(StartWorker(model.name, worker))
