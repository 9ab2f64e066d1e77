"""When a worker dies: who is tried again, who is told, and when the model is started once more.

A request that is blamed for a hang is not tried again. Any other of which nothing was sent is tried once more, alone:
nothing else of its model is in flight meanwhile. If the worker dies again, that request is the cause, and is refused.

A worker that dies while requests are in flight is no failure of the model: what a client can cause is not a property
of it. One that dies while it loads, wakes or idles is. A model is restarted at once after its first death and after a
pause after the next; after FAILURES_IN_A_ROW without a success between them it counts as failed, its queue is told,
and the next start is a probe, later each time.

Out of memory although the books were kept adds a margin to what the model is given. While loading: room is made for
that too and the load tried once more, alone, after a pause. While running: the worker's caches are given back and
each request of the batch is tried once more by itself.

A worker that held more than its limit (``memory_limits``) was ended for that. While loading, the next load is given
more, up to all that the budget allows. While running, it is as if it had run out of memory.
"""

from cohabit.core.busy_periods import overran, peaked
from cohabit.core.dispatch import withdraw
from cohabit.core.events import RequestFailed, WorkerExited
from cohabit.core.fit import fits_now, max_bytes_for
from cohabit.core.lifecycle import COMING, Move, State
from cohabit.core.queues import Request
from cohabit.core.reasons import Rejection, RejectReason
from cohabit.core.state import Model, SchedulerState
from cohabit.core.swap import trim
from cohabit.core.timeouts import reject, reject_failed

FAILURES_IN_A_ROW = 3
PROBE_AFTER = 30.0  # seconds; doubled after each probe that fails
LATEST_PROBE = 600.0
PAUSE = 2.0
PAUSE_AFTER_OOM = 1.0


def worker_exited(state: SchedulerState, event: WorkerExited, now: float) -> None:
    """A process is gone, asked for or not: release its books, deal with what it held."""
    model = state.workers[event.worker]
    held = list(model.running.values())
    worker_state = model.state
    asked = worker_state is State.STOPPING
    loading = worker_state in COMING | {State.PREWARMED}
    blameless = bool(held)
    if event.exceeded:
        blameless = _exceeded(state, model, event.exceeded, now, loading=loading)
    elif event.out_of_memory:
        _widen(state, model)
    withdraw_all(state, model, now)
    model.lifecycle.move(Move.EXITED, now)
    state.ledger.close(event.worker, now, event.exceeded)
    del state.workers[event.worker]
    model.worker = None
    model.draining = False
    model.note_unloaded(now)
    if not asked and worker_state is State.STARTING:
        model.unloaded_at = now  # who waits for it waits anew, behind whom its load has held up
    if asked and event.seconds > 0:
        model.footprint.exit_seconds.add(event.seconds)
    if not asked:
        _count(model, event, now, loading=loading, blameless=blameless)
    if worker_state in {State.WAKING, State.ENTERING_SLEEP} and not asked:
        model.sleep_failed = True
    state.changed(model)
    for request in held:
        if request.id in event.blamed and not request.ended:
            del state.requests[request.id]
            reject(state, request, Rejection(RejectReason.STALLED, f"{model.name} hung on this request; change it"))
            continue
        _after_death(state, model, request, request.id in event.sent, event)
    reject_failed(state, model, now)


def withdraw_all(state: SchedulerState, model: Model, now: float) -> None:
    """Take everything off a worker."""
    if model.busy:
        withdraw(state, model, list(model.running), now)


def request_failed(state: SchedulerState, event: RequestFailed, now: float) -> None:
    """The engine gave one item up; out of memory is tried once more, alone."""
    model = state.workers[event.worker]
    request = model.running[event.request]
    peaked(model, event.peak, now, failed=True)
    withdraw(state, model, [request.id], now)
    if event.out_of_memory:
        _widen(state, model)
        if not model.running and model.state is State.READY and not model.draining:
            trim(state, model, "it ran out of memory")
        _after_death(state, model, request, event.sent, event)
        return
    del state.requests[request.id]
    if not request.ended:
        detail = f"{model.name} could not answer this request"
        reject(state, request, Rejection(RejectReason.ENGINE, detail))


def _count(model: Model, event: WorkerExited, now: float, *, loading: bool, blameless: bool) -> None:
    model.failure = event.detail
    if blameless:
        model.deaths += 1
        model.not_before = now if model.deaths == 1 else now + PAUSE
        return
    model.failures += 1
    lacked_memory = loading and event.out_of_memory
    if event.permanent or model.failures >= (2 if lacked_memory else FAILURES_IN_A_ROW):
        model.lifecycle.move(Move.GIVE_UP, now)
        probes = max(0, model.failures - FAILURES_IN_A_ROW)
        model.not_before = now + min(PROBE_AFTER * 2**probes, LATEST_PROBE)
    elif lacked_memory:
        model.not_before = now + PAUSE_AFTER_OOM
    else:
        model.not_before = now if model.failures == 1 else now + PAUSE


def _widen(state: SchedulerState, model: Model) -> None:
    """Not if somebody was beyond the books: then the model's own figures are not what was wrong."""
    if fits_now(state, 0):
        model.footprint.widen(max_bytes_for(state, model))


def _exceeded(state: SchedulerState, model: Model, held: int, now: float, *, loading: bool) -> bool:
    """Its worker was ended for holding more than it may. Returns whether the model is not to blame: it was given too
    little, or it is what was sent to it."""
    overran(model, held, state.account(model).held, now)
    most = max_bytes_for(state, model)
    if loading:
        return model.footprint.learn_shortage(held, min(most, state.ledger.effective_budget))
    if not any(request.retried for request in model.running.values()):  # else that one is the cause
        model.footprint.widen(most)
    return True


def _after_death(
    state: SchedulerState, model: Model, request: Request, sent: bool, event: WorkerExited | RequestFailed
) -> None:
    if request.ended:
        del state.requests[request.id]
        return
    if not sent and not request.retried:
        request.retried = True
        request.dispatched = None
        request.cancelled = None
        model.queue.push_front(request)
        state.changed(model)
        return
    del state.requests[request.id]
    reject(state, request, _blame(model, event, sent))


def _blame(model: Model, event: WorkerExited | RequestFailed, sent: bool) -> Rejection:
    """What its client is told of a request that is not tried again."""
    exceeded = isinstance(event, WorkerExited) and event.exceeded > 0
    if exceeded and not sent:
        detail = f"this request needs more memory than {model.name} may have; make it smaller"
        return Rejection(RejectReason.MEMORY_LIMIT, detail)
    if event.out_of_memory and not exceeded:
        detail = f"{model.name} ran out of memory on this request; make it smaller"
        return Rejection(RejectReason.OUT_OF_MEMORY, detail, retry_after=10.0)
    if sent:
        detail = f"the worker of {model.name} died after a part of the answer was sent; the others go on"
        return Rejection(RejectReason.WORKER_DIED, detail, retry_after=1.0)
    detail = f"the worker of {model.name} died twice on this request, the second time while it ran alone; change it"
    return Rejection(RejectReason.WORKER_DIED, detail)
