"""What time does: deadlines, run limits, keep_alive, infeasible queues, the end of a drain.

Each function does what is due at ``now`` and returns the next moments at which something will be.
"""

from collections.abc import Iterator

from cohabit.core.admission import never_fitting, past_deadline
from cohabit.core.commands import Cancel, Reject, StopCause
from cohabit.core.dispatch import charge
from cohabit.core.lifecycle import State
from cohabit.core.queues import Request
from cohabit.core.reasons import Rejection, RejectReason
from cohabit.core.residency import stop
from cohabit.core.room import infeasible
from cohabit.core.state import Books, Model

CANCEL_GRACE = 30.0  # seconds a worker has to heed a cancel before it counts as hung


def reject(books: Books, request: Request, rejection: Rejection) -> None:
    """End a request that waits, or one whose worker has already given it up."""
    request.ended = True
    books.out.append(Reject(request.id, rejection))


def drop(books: Books, model: Model, request: Request, rejection: Rejection) -> None:
    """Take a waiting request out of its queue and end it."""
    model.queue.remove(request)
    del books.requests[request.id]
    reject(books, request, rejection)


def cancel(books: Books, model: Model, request: Request, now: float) -> None:
    """Tell the worker to stop a running request, once."""
    if request.cancelled is None:
        assert model.worker is not None
        request.cancelled = now
        books.out.append(Cancel(request.id, model.worker))


def expire(books: Books, now: float) -> list[float]:
    """Everything whose time has come."""
    moments = [
        *_deadlines(books, now),
        *_runs(books, now),
        *_infeasible(books, now),
        *_keep_alive(books, now),
        *_drain(books, now),
    ]
    moments += [m.not_before for m in books.models.values() if m.queue or m.wanted]
    return [moment for moment in moments if moment > now]


def _deadlines(books: Books, now: float) -> Iterator[float]:
    for request in list(books.requests.values()):
        if request.deadline is None or request.ended:
            continue
        if now < request.deadline:
            yield request.deadline
            continue
        model = books.models[request.model]
        if request.dispatched is None:
            drop(books, model, request, past_deadline(model.name))
        else:
            reject(books, request, past_deadline(model.name))
            cancel(books, model, request, now)


def _runs(books: Books, now: float) -> Iterator[float]:
    for model in list(books.resident):
        for request in list(model.running.values()):
            assert request.dispatched is not None
            if request.cancelled is None:
                limit = request.dispatched + model.policy.max_run
                if now < limit:
                    yield limit
                    continue
                if not request.ended:
                    detail = f"{model.name} ran for {model.policy.max_run:g} s, the most a request may (max_run)"
                    reject(books, request, Rejection(RejectReason.MAX_RUN, detail))
                cancel(books, model, request, now)
            assert request.cancelled is not None
            heeded_by = request.cancelled + CANCEL_GRACE
            if now < heeded_by:
                yield heeded_by
            elif model.state is State.READY:
                why = f"a cancelled request still runs after {CANCEL_GRACE:g} s"
                stop(books, model, StopCause.HUNG, why, now, kill=True)


def _infeasible(books: Books, now: float) -> Iterator[float]:
    """Branch 1 again for what was queued: a queue that cannot be served is told so after ``max_wait``."""
    for model in books.models.values():
        hopeless = bool(model.queue) and not model.busy and infeasible(books, model)
        if not hopeless:
            model.infeasible_since = None
            continue
        if model.infeasible_since is None:
            model.infeasible_since = now
        limit = model.infeasible_since + model.policy.max_wait
        if now < limit:
            yield limit
            continue
        for request in list(model.queue):
            drop(books, model, request, never_fitting(books, model))


def _keep_alive(books: Books, now: float) -> Iterator[float]:
    for model in list(books.ready()):
        keep_alive = model.policy.keep_alive
        if keep_alive is None or model.busy or model.queue or model.policy.pin:
            continue
        limit = model.idle_since + keep_alive
        if now < limit:
            yield limit
        else:
            why = f"idle for {keep_alive:g} s (keep_alive)"
            stop(books, model, StopCause.KEEP_ALIVE, why, now)


def _drain(books: Books, now: float) -> Iterator[float]:
    """Shutting down: what was accepted may finish until the drain ends."""
    if books.draining_until is None:
        return
    if now < books.draining_until:
        if books.requests:
            yield books.draining_until
            return
    else:
        gone = Rejection(RejectReason.SHUTTING_DOWN, "the server is shutting down", retry_after=10.0)
        for request in list(books.requests.values()):
            model = books.models[request.model]
            if request.dispatched is None:
                drop(books, model, request, gone)
            elif not request.ended:
                reject(books, request, gone)
    charge(books, now)
    for model in list(books.resident):
        if model.state in {State.STARTING, State.READY}:
            stop(books, model, StopCause.SHUTDOWN, "the server is shutting down", now, kill=model.busy)
