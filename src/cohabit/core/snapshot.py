"""The core's state as plain data, for the page, the status command and the logs. A versioned schema."""

from collections.abc import Iterator
from itertools import chain, count, islice
from typing import Any

from cohabit.core.explain import expected_waits, waits_for
from cohabit.core.ledger import Account
from cohabit.core.state import Books, Model

SCHEMA = 1
LISTED = 100  # requests of each model, unless asked for more or fewer
MOST_LISTED = 1000  # of all models
TELL_SECONDS = 600.0  # for so long an alert tells of a worker that held too much
RETURN_SECONDS = 10.0  # by then a device shows the memory of a dead process as free


def snapshot(books: Books, now: float, listed: int | None = None) -> dict[str, Any]:
    """Bytes and seconds; names, counts and reasons, never a prompt or an answer.

    ``listed`` requests of each model that wait, the next ones, and as many that run; MOST_LISTED of all models. None:
    every one, however many there are.
    """
    ledger, claim = books.ledger, books.claim
    requests = chain.from_iterable(
        chain(_waiting(books, model, now, listed), _running(model, now, listed)) for model in books.models.values()
    )
    return {
        "schema": SCHEMA,
        "device": {
            "budget": ledger.budget,
            "effective_budget": ledger.effective_budget,
            "keep_free": ledger.keep_free,
            "total": ledger.total,
            "reserved": ledger.reserved,
            "unreturned": ledger.unreturned,
            "foreign": ledger.foreign,
            "host_cache": ledger.host_cache,
            "host_copies": ledger.copied,
            "compute_slots": ledger.slots,
            "slots_used": ledger.slots_used,
        },
        "models": [_model(books, model, now) for model in books.models.values()],
        "requests": list(requests if listed is None else islice(requests, MOST_LISTED)),
        "claim": claim
        and {
            "model": claim.model,
            "since_seconds": now - claim.since,
            "need": claim.need,
            "victims": [books.workers[worker].name for worker in claim.victims if worker in books.workers],
            "why": claim.why,
        },
        "alerts": list(alerts(books, now)),
        "shutting_down": books.draining_until is not None,
    }


def _model(books: Books, model: Model, now: float) -> dict[str, Any]:
    ledger = books.ledger
    account = ledger.accounts[model.worker] if model.worker is not None else Account()
    footprint = model.footprint
    return {
        "name": model.name,
        "state": model.state,
        "since_seconds": now - model.lifecycle.since,
        "draining": model.draining or model.dismissed is not None,
        "pinned": model.policy.pin,
        "held": account.held,
        "load": account.load,
        "resident": account.resident,
        "working": account.working,
        "cached": max(account.cached, account.unconfirmed),
        "host_copy": ledger.copies.get(model.worker, 0) if model.worker is not None else 0,
        "needs": {
            part: {"bytes": figure.size, "origin": figure.origin}
            for part, figure in (
                ("resident", footprint.resident),
                ("load", footprint.load),
                ("working", footprint.working),
                ("residue", footprint.residue),
                ("host_copy", footprint.copy),
            )
            if figure is not None
        },
        "margin": footprint.margin,
        "load_seconds": footprint.load_seconds.value,
        "wake_seconds": footprint.wake_seconds.value,
        "in_flight": len(model.running),
        "waiting": len(model.queue),
        "loads": model.loads,
        "wakes": model.wakes,
        "last_eviction": model.last_eviction,
        "failure": model.failure,
        "overruns": model.overruns,
    }


def _waiting(books: Books, model: Model, now: float, listed: int | None) -> Iterator[dict[str, Any]]:
    if not model.queue or listed == 0:
        return
    reason = waits_for(books, model, now)
    first = enumerate(islice(model.queue, listed), start=1)
    for (position, request), expected in zip(first, expected_waits(books, model, count(1), now), strict=False):
        yield {
            "id": request.id,
            "model": model.name,
            "state": "waiting",
            "background": request.background,
            "position": position,
            "waited_seconds": now - request.arrived,
            "waits_for": reason,
            "expected_seconds": expected,
        }


def _running(model: Model, now: float, listed: int | None) -> Iterator[dict[str, Any]]:
    for request in islice(model.running.values(), listed):
        assert request.dispatched is not None
        yield {
            "id": request.id,
            "model": model.name,
            "state": "cancelled" if request.ended else "running",
            "background": request.background,
            "waited_seconds": request.dispatched - request.arrived,
            "running_seconds": now - request.dispatched,
        }


def alerts(books: Books, now: float) -> Iterator[str]:
    """What its owner should know, a sentence each."""
    ledger = books.ledger
    if books.unreadable is not None:
        yield f"the device cannot be read, so nothing new is brought in: {books.unreadable}"
    if ledger.reserved > ledger.effective_budget:
        short = ledger.reserved - ledger.effective_budget
        yield f"{short >> 20} MiB more are booked than the device now allows; nothing new is brought in"
    if ledger.unreturned and ledger.unreturned_since is not None and now - ledger.unreturned_since > RETURN_SECONDS:
        yield f"the device still holds {ledger.unreturned >> 20} MiB of workers that have ended"
    if ledger.copied > ledger.host_cache:
        over = ledger.copied - ledger.host_cache
        yield f"copies of weights take {over >> 20} MiB more of host memory than they may (device.host_cache)"
    for model in books.models.values():
        if model.footprint.margin:
            yield f"{model.name} ran out of memory; {model.footprint.margin >> 20} MiB more are allowed for it"
        if model.sleep_failed:
            yield f"{model.name} cannot sleep: it is stopped instead"
        if now - model.overran_at < TELL_SECONDS:
            held, given = (size >> 20 for size in model.overran)
            times = "once" if model.overruns == 1 else f"{model.overruns} times"
            yield f"{model.name} held {held} MiB where {given} MiB were booked ({times} since the start)"
