"""When a worker dies: who is tried again, who is told, and when the model is started once more.

A request of which nothing was sent is tried once more, alone, so that a poisonous one fails by itself. A model
is restarted with exponential back-off; after FAILURES_IN_A_ROW without a success between them it counts as
failed, its queue is told, and the next start is a probe.
"""

from cohabit.core.admission import failed
from cohabit.core.dispatch import withdraw
from cohabit.core.events import RequestFailed, WorkerExited
from cohabit.core.lifecycle import Move, State
from cohabit.core.limits import drop, reject
from cohabit.core.queues import Request
from cohabit.core.reasons import Rejection, RejectReason
from cohabit.core.state import Books, Model

FAILURES_IN_A_ROW = 3
PROBE_AFTER = 30.0  # seconds
LONGEST_BACK_OFF = 60.0


def worker_exited(books: Books, event: WorkerExited, now: float) -> None:
    """A process is gone, asked for or not: release its books, deal with what it held."""
    model = books.workers[event.worker]
    held = list(model.running.values())
    asked = model.state is State.STOPPING
    withdraw_all(books, model, now)
    model.lifecycle.move(Move.EXITED, now)
    books.ledger.close(event.worker)
    del books.workers[event.worker]
    model.worker = None
    model.draining = False
    model.went_out = now
    if asked and event.seconds > 0:
        model.footprint.exit_seconds.add(event.seconds)
    if not asked:
        _count(model, event, now)
    for request in held:
        _after_death(books, model, request, request.id in event.sent, event.out_of_memory)
    if model.state is State.FAILED:
        for request in list(model.queue):
            drop(books, model, request, failed(model, now))


def withdraw_all(books: Books, model: Model, now: float) -> None:
    """Take everything off a worker."""
    if model.busy:
        withdraw(books, model, list(model.running), now)


def request_failed(books: Books, event: RequestFailed, now: float) -> None:
    """The engine gave one item up; out of memory is tried once more, alone."""
    model = books.workers[event.worker]
    request = model.running[event.request]
    withdraw(books, model, [request.id], now)
    if event.out_of_memory:
        _after_death(books, model, request, event.sent, True)
        return
    del books.requests[request.id]
    if not request.ended:
        detail = f"{model.name} could not answer this request"
        reject(books, request, Rejection(RejectReason.ENGINE, detail))


def _count(model: Model, event: WorkerExited, now: float) -> None:
    model.failures += 1
    model.failure = event.detail
    if event.permanent or model.failures >= FAILURES_IN_A_ROW:
        model.lifecycle.move(Move.GIVE_UP, now)
        model.not_before = now + PROBE_AFTER
    else:
        back_off = 0.0 if model.failures == 1 else 0.5 * 2**model.failures
        model.not_before = now + min(back_off, LONGEST_BACK_OFF)


def _after_death(books: Books, model: Model, request: Request, sent: bool, out_of_memory: bool) -> None:
    if request.ended:
        del books.requests[request.id]
        return
    if not sent and not request.retried:
        request.retried = True
        request.dispatched = None
        request.cancelled = None
        model.queue.push_front(request)
        return
    del books.requests[request.id]
    if out_of_memory:
        detail = f"{model.name} ran out of memory on this request; make it smaller"
        reject(books, request, Rejection(RejectReason.OUT_OF_MEMORY, detail, retry_after=10.0))
    else:
        when = "after a part of the answer was sent" if sent else "twice on this request"
        detail = f"the worker of {model.name} died {when}; the others go on"
        reject(books, request, Rejection(RejectReason.WORKER_DIED, detail, retry_after=1.0))
