"""Who is brought in, and when. Branch 3 of the decision tree.

3.0  The books are over the budget (it shrank, or a worker outgrew them): caches are trimmed, then sleepers and then
     idle workers are stopped, each by their score. Sleepers are, too, while copies take more of host memory than
     they may. While the device cannot be read nothing is brought in: 3.2 and 3.3 do not apply.
3.1  The claim's model needs it no more, or the device cannot be read: it is withdrawn, victims that still drain go
     on serving.
3.2  There is a claim: its victims leave as they fall idle; it is fulfilled once everything it needs fits.
3.3  There is none: the most urgent waiter that may be served gets it. Whom it may take the room from, and from when,
     is in ``victims``. While it waits for its room its process is started, if what that takes is known and free: one
     at a time, which goes again when nobody waits for its model any more.
"""

import math
from collections.abc import Iterator
from functools import cache
from itertools import islice

from cohabit.core.claim import Claim
from cohabit.core.commands import SleepWorker, SpawnWorker, StartWorker, StopCause, StopWorker, TrimWorker, WakeWorker
from cohabit.core.copies import copy_bytes, in_the_way, is_copied, too_many
from cohabit.core.eviction import Policy, account_for, entry_seconds, score
from cohabit.core.exits import Exit
from cohabit.core.lifecycle import COMING, Move, State
from cohabit.core.reservation import Reservation
from cohabit.core.room import Standing, infeasible, missing_now, need, residue, shortfall
from cohabit.core.state import Books, Model
from cohabit.core.victims import Search
from cohabit.core.waiters import overtakes_at

_LEAVES = frozenset({State.SPAWNED, State.READY, State.ASLEEP})
LOOK_AHEAD = 8  # waiters for whom room is sought, the most urgent first, before the others must wait for a change
LOOK_FURTHER = 64  # waiters that may have room which is free


def stop(books: Books, model: Model, cause: StopCause, why: str, now: float, *, kill: bool = False) -> None:
    """Tell a worker to leave."""
    assert model.worker is not None
    model.lifecycle.move(Move.STOP, now)
    model.draining = False
    books.ledger.leave(model.worker)
    books.changed(model)
    if cause in {StopCause.EVICTED, StopCause.OVER_BUDGET}:
        model.last_eviction = why
    books.out.append(StopWorker(model.name, model.worker, cause, why, kill=kill))


def sleep(books: Books, model: Model, cause: StopCause, why: str, now: float) -> None:
    """Tell an idle worker to let go of its weights."""
    assert model.worker is not None
    model.lifecycle.move(Move.SLEEP, now)
    model.draining = False
    books.ledger.leave(model.worker, residue(model))
    books.changed(model)
    if cause is StopCause.EVICTED:
        model.last_eviction = why
    books.out.append(SleepWorker(model.name, model.worker, cause, why))


def trim(books: Books, model: Model, why: str) -> None:
    """Tell an idle worker to give its caches back."""
    assert model.worker is not None
    books.ledger.trim(model.worker)
    books.changed(model)
    books.out.append(TrimWorker(model.name, model.worker, why))


def relieve(books: Books, policy: Policy, now: float) -> None:
    """Branch 3.0: come back within the budgets by letting idle workers go."""
    if books.ledger.copied > books.ledger.host_cache:
        for sleeper in too_many(books, policy):
            why = "copies of weights are over what they may take of host memory (device.host_cache)"
            stop(books, sleeper, StopCause.OVER_BUDGET, why, now)
    over = books.ledger.reserved - books.ledger.effective_budget
    if over <= 0:
        return
    if books.spawned is not None:
        over -= books.account(books.spawned).held
        stop(books, books.spawned, StopCause.UNSTARTED, "the books are over the budget", now)
    for account in books.ledger.accounts.values():
        if account.leaving:
            over -= account.held - account.remains
        elif account.trimming:
            over -= account.held - account.resident
        elif not account.working:
            over -= account.held - account.at_rest  # the next reading shows what of it is free
    idle = [m for m in books.workers.values() if not m.running and not m.policy.pin]
    for model in idle:
        account = books.account(model)
        if over > 0 and model.state is State.READY and account.cached and not (account.trimmed or account.trimming):
            over -= account.cached
            trim(books, model, "the books are over the budget")
    idle = [m for m in idle if m.state in {State.READY, State.ASLEEP} and not books.account(m).trimming]
    for model in sorted(idle, key=lambda m: (m.state is State.READY, score(books, m, policy))):
        if over <= 0:
            return
        over -= books.account(model).at_rest
        why = f"the books are over the budget; {account_for(books, model, policy, Exit.STOP)}"
        stop(books, model, StopCause.OVER_BUDGET, why, now)


def bring_in(books: Books, policy: Policy, now: float) -> None:
    """Branches 3.1 to 3.3. A claim that is met at once leaves the next waiter free to make one."""
    _withdraw_if_needless(books)
    if books.spawned is not None and books.spawned not in books.waiters:
        stop(books, books.spawned, StopCause.UNSTARTED, "nobody waits for it any more", now)
    if books.unreadable is not None:
        books.next_try = None
        return
    _pursue(books, policy, now)
    claimed = True
    while claimed and books.claim is None:
        claimed = _decide(books, policy, now)


def _decide(books: Books, policy: Policy, now: float) -> bool:
    """Branches 3.3 and 3.4: form the claim of the first waiter that may make one. Returns whether one did."""
    later: list[float] = []
    waiting: list[Model] = []
    standing = Standing.of(books)
    first: Search | None = None
    claimed = False
    promised = cache(Reservation.of)
    for place, waiter in enumerate(list(islice(_eligible(books, standing, now), LOOK_FURTHER))):
        waiter.behind = None
        if place >= LOOK_AHEAD and standing.shortfall(books, waiter) > 0:
            continue
        search = Search.of(books, waiter, now)
        exits = _room_for(search, policy, standing, later)
        if exits is not None and first is not None:
            reservation = promised(first)
            if reservation is not None and not reservation.is_kept(waiter, exits, now):
                waiter.behind, exits = first.waiter, None
                later.append(overtakes_at(waiter, first.waiter))
        if exits is not None:
            _claim(search, exits, policy)
            _pursue(books, policy, now)
            waiting.insert(0, waiter)
            claimed = True
            break
        if search.sought:
            waiting.append(waiter)
            if not waiter.yields:  # nobody makes room for background work, so none is kept for it
                first = first or search
    _spawn(books, waiting, now)
    books.next_try = min((at for at in later if now < at < math.inf), default=None)
    return claimed


def _eligible(books: Books, standing: Standing, now: float) -> Iterator[Model]:
    """Models that lack room and could have it, the most urgent first."""
    if any(model.state in COMING and model.footprint.margin for model in books.workers.values()):
        return  # it ran out of memory before: this time it loads alone
    tight = standing.tight(books)
    for model in books.waiters.by_urgency(now):
        if now < model.not_before:
            continue
        if not model.out and not (tight and standing.shortfall(books, model) > 0):
            continue  # it waits for slots, not for room
        if not infeasible(books, model):
            yield model


def _withdraw_if_needless(books: Books) -> None:
    """Branch 3.1. Also withdrawn is a claim that its victims no longer satisfy: 3.3 decides anew."""
    claim = books.claim
    if claim is None:
        return
    model = books.models[claim.model]
    for worker, chosen in list(claim.victims.items()):
        if _has_made_room(books, worker, chosen):
            del claim.victims[worker]
    # With nobody waiting it is a preload, for which nobody makes room.
    victims = claim.victims if model.sought_since < math.inf else {}
    if books.unreadable is None and model in books.waiters and shortfall(books, model, victims) <= 0:
        return
    books.claim = None
    for worker in claim.victims:
        victim = books.workers[worker]
        victim.draining = False
        books.changed(victim)


def _has_made_room(books: Books, worker: int, chosen: Exit) -> bool:
    """Whether nothing more is to be expected of a victim: what it has not given up by now it keeps."""
    if worker not in books.workers:
        return True
    account = books.ledger.accounts[worker]
    if chosen is Exit.SLEEP:
        return books.workers[worker].state is State.ASLEEP and not account.unconfirmed
    return chosen is Exit.TRIM and not account.trimming and not (account.trimmed and account.unconfirmed)


def _room_for(search: Search, policy: Policy, standing: Standing, later: list[float]) -> dict[int, Exit] | None:
    """Branch 3.3 for one waiter: who may make room for it now, and how; None: not yet, and ``later`` is told when."""
    books, waiter, now = search.books, search.waiter, search.now
    if waiter.footprint.margin and any(model.state in COMING for model in books.workers.values()):
        return None  # it ran out of memory before, and loads alone
    choice = search.choose(policy, standing)
    exits, times = choice.exits, choice.later
    worth_at = search.since + entry_seconds(waiter)
    held_up = exits is not None and not search.overdue and (waiter.yields or now < worth_at)
    if held_up and missing_now(books, waiter, exits or {}) > 0:
        # Only runs of others are in the way: they are held up no sooner than a switch would be worth it.
        exits, times = None, [] if waiter.yields else [worth_at]
    if exits is None and search.sought:
        later += [*times, search.overdue_at]
    return exits


def _claim(search: Search, exits: dict[int, Exit], policy: Policy) -> None:
    books, waiter, now = search.books, search.waiter, search.now
    if search.sought:
        exits |= dict.fromkeys(in_the_way(books, waiter, exits, policy, now), Exit.STOP)
    waited = now - search.since
    reason = (
        "it waited max_wait" if search.overdue else "idle for longer than its return costs, or its patience is over"
    )
    why = f"for {waiter.name}, waiting {waited:.1f} s: {reason}"
    books.claim = Claim(waiter.name, since=now, need=need(books, waiter), victims=exits, why=why)
    for worker, chosen in exits.items():
        if chosen is not Exit.TRIM:
            victim = books.workers[worker]
            victim.draining = victim.state is State.READY
            books.changed(victim)


def _spawn(books: Books, waiting: list[Model], now: float) -> None:
    """Let one process start, and import what it needs, before there is room for its model: of who comes first."""
    if books.spawned is not None or not waiting:
        return
    standing, ledger = Standing.of(books), books.ledger
    free = ledger.effective_budget - max(ledger.reserved, standing.rest + standing.largest)  # in the way of no run
    for model in waiting:
        size = model.footprint.spawned
        if model.worker is None and not model.yields and size is not None and size <= free:
            worker = _give_process(books, model)
            model.lifecycle.move(Move.SPAWN, now)
            ledger.spawn(worker, size)
            books.out.append(SpawnWorker(model.name, worker))
            books.changed(model)
            return


def _give_process(books: Books, model: Model) -> int:
    books.worker_count += 1
    model.worker = books.worker_count
    books.workers[model.worker] = model
    return model.worker


def _pursue(books: Books, policy: Policy, now: float) -> None:
    """Branch 3.2."""
    claim = books.claim
    if claim is None:
        return
    for worker, chosen in claim.victims.items():
        victim = books.workers.get(worker)
        if victim is not None and not victim.running and victim.state in _LEAVES:
            _make_room(books, victim, chosen, policy, now)
    model = books.models[claim.model]
    claim.need = need(books, model)
    if any(not _has_made_room(books, worker, chosen) for worker, chosen in claim.victims.items()):
        return  # a victim that stops is never resurrected, and one that drains has been promised to go
    if model.out and books.ledger.reserved + claim.need <= books.ledger.effective_budget:
        books.claim = None
        start(books, model, now)
    # A claim to run stays until the model does: branch 2 gives it its dispatch, 3.1 ends it.


def _make_room(books: Books, victim: Model, chosen: Exit, policy: Policy, now: float) -> None:
    claim, account = books.claim, books.account(victim)
    assert claim is not None
    if account.trimming:
        return
    if chosen is Exit.TRIM:
        if not account.trimmed:
            trim(books, victim, claim.why)
    elif victim.state is State.SPAWNED:
        stop(books, victim, StopCause.UNSTARTED, claim.why, now)
    elif chosen is Exit.STOP:
        why = f"{claim.why}; {account_for(books, victim, policy, chosen)}"
        stop(books, victim, StopCause.EVICTED, why, now)
    elif victim.state is State.READY:
        why = f"{claim.why}; {account_for(books, victim, policy, chosen)}"
        sleep(books, victim, StopCause.EVICTED, why, now)


def start(books: Books, model: Model, now: float) -> None:
    """Reserve what it takes and begin to load it, or to wake it."""
    model.wanted, model.wanted_since = False, None
    model.dispatches = 0
    model.inflation = books.inflation
    model.behind = None
    worker = _give_process(books, model) if model.worker is None else model.worker
    books.ledger.load(worker, model.footprint.load_need)
    if model.state is State.ASLEEP:
        model.lifecycle.move(Move.WAKE, now)
        books.out.append(WakeWorker(model.name, worker))
    else:
        model.lifecycle.move(Move.START, now)
        copied = is_copied(books, model)
        if copied:
            books.ledger.copy(worker, copy_bytes(model))
        books.out.append(StartWorker(model.name, worker, keep_copy=copied))
    books.changed(model)
