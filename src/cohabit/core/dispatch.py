"""Deficit round robin over device-seconds, weighted by priority (Shreedhar and Varghese, SIGCOMM 1995).

A model is charged for the time during which anything of it is in flight, once, however many requests its engine
runs together. Who has spent his quantum gets no new dispatch while another could be dispatched. Debts persist;
credit is dropped when a queue empties.
"""

import math
from collections.abc import Iterable

from cohabit.core.commands import Dispatch
from cohabit.core.lifecycle import State
from cohabit.core.room import extra_now, fits_now, leaves_claim_alone
from cohabit.core.state import Books, Model

SLOT = "a compute slot"
MEMORY = "working memory"
QUANTUM = 0.1  # device-seconds a round for priority 1


def charge(books: Books, now: float) -> None:
    """Charge every busy model for the time since it was last charged."""
    for model in books.resident:
        if model.busy:
            model.deficit -= now - model.charged_until
        model.charged_until = now


def blocked_by(books: Books, model: Model) -> str | None:
    """What keeps a model with waiting requests from being given one now; None if nothing does."""
    if model.state is not State.READY:
        return "the model to be brought in"
    if model.draining:
        return "the model to be brought back after it has made room for another"
    if len(model.batches) >= model.policy.concurrency:
        return "a request of this model to finish"
    if model.busy and (model.queue.peek().retried or any(r.retried for r in model.running.values())):
        return "its turn to run alone, since its first run failed"
    if not model.busy:
        if books.ledger.slots_used + model.policy.slots > books.ledger.slots:
            return SLOT
        if not fits_now(books, extra_now(books, model)):
            return MEMORY
    elif not fits_now(books, 0):
        return "the memory in use to fall below the budget"
    if not leaves_claim_alone(books, model):
        return "room that is being made for another model"
    return None


def dispatch_all(books: Books, now: float) -> None:
    """Branch 2 of the decision tree: give out everything that can be given out."""
    while True:
        candidates = []
        for name in books.ring:
            model = books.models[name]
            if not model.queue or model.state is not State.READY:
                continue
            reason = blocked_by(books, model)
            if reason is None:
                candidates.append(model)
            elif reason in {SLOT, MEMORY} and kept_out(model, now):
                # 2a. Kept out by slots or bytes beyond its time: nobody may overtake it any more.
                return
        if not candidates:
            return
        _dispatch(books, _turn(books, candidates), now)


def kept_out(model: Model, now: float) -> bool:
    """Whether it has been given nothing for as long as a request may wait."""
    return now - max(model.waiting_since, model.last_used) >= model.policy.max_wait


def _turn(books: Books, candidates: list[Model]) -> Model:
    """Whose quantum lasts; if nobody's does, as many rounds pass as it takes until one does."""
    chosen = next((model for model in candidates if model.deficit > 0), None)
    if chosen is None:
        rounds = min(_rounds(model) for model in candidates)
        chosen = min(candidates, key=_rounds)
        for model in candidates:
            model.deficit += rounds * QUANTUM * model.policy.priority
    # Its turn lasts until its quantum is spent, then the ring goes on behind it.
    index = books.ring.index(chosen.name)
    books.ring = books.ring[index:] + books.ring[:index]
    return chosen


def _rounds(model: Model) -> int:
    return math.floor(-model.deficit / (QUANTUM * model.policy.priority)) + 1


def _dispatch(books: Books, model: Model, now: float) -> None:
    assert model.worker is not None
    if not model.busy:
        books.ledger.slots_used += model.policy.slots
        books.ledger.run(model.worker, model.footprint.working.size)
        model.charged_until = now
    first = model.queue.pop()
    batch = [first]
    while (
        len(batch) < model.policy.max_batch
        and not first.retried  # a suspect runs alone
        and model.queue
        and not model.queue.peek().retried
    ):
        batch.append(model.queue.pop())
    for request in batch:
        request.dispatched = now
        model.running[request.id] = request
    model.batches.append({request.id for request in batch})
    model.dispatches += len(batch)
    model.last_used = now
    if not model.queue:
        model.deficit = min(model.deficit, 0.0)
    books.out.append(Dispatch(model.name, model.worker, tuple(request.id for request in batch)))


def withdraw(books: Books, model: Model, request_ids: Iterable[int], now: float) -> None:
    """These requests are off the worker, one way or the other; free what their run held."""
    charge(books, now)
    for request_id in request_ids:
        del model.running[request_id]
        for batch in model.batches:
            batch.discard(request_id)
    model.batches = [batch for batch in model.batches if batch]
    if not model.busy:
        assert model.worker is not None
        books.ledger.slots_used -= model.policy.slots
        books.ledger.rest(model.worker, now)
        model.idle_since = now
        model.last_used = now
