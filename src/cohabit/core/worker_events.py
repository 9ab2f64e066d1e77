"""What workers and the device report. Branch 6 of the decision tree: failures.

**Memory.** A worker reports the peak of its whole process since it was last idle. So what can be measured is a *busy
period*: all that ran from one idle moment to the next. It teaches something when it has ended, and only if every
request of it was answered or cancelled: where one failed, the peak may be its doing, and the others are bystanders. A
busy period that took more than was reserved is counted and is an alert; it never teaches more than the model may be
given.

**Deaths.** A request that is blamed for a hang is not tried again. Any other of which nothing was sent is tried once
more, alone: nothing else of its model is in flight meanwhile. If the worker dies again, that request is the cause,
and is refused.

A worker that dies while requests are in flight is no failure of the model: what a client can cause is not a property
of it. One that dies while it loads, wakes or idles is. A model is restarted at once after its first death and after a
pause after the next; after FAILURES_IN_A_ROW without a success between them it counts as failed, its queue is
rejected, and the next start is a probe, later each time.

**Out of memory** although nobody exceeded the budget adds a margin to what the model is given. While loading: room is
made for that too and the load tried once more, alone, after a pause. While running: the worker's caches are given
back and each request of the batch is tried once more by itself. A worker that held more than its limit
(``memory_limits``) was ended for that. While loading, the next load is given more, up to all that the budget allows.
While running, it is as if it had run out of memory.
"""

from cohabit.core.commands import Rejection, RejectReason, StopCause
from cohabit.core.events import (
    DeviceMeasured,
    RequestFailed,
    RequestFinished,
    Slept,
    Trimmed,
    WorkerExited,
    WorkerReady,
)
from cohabit.core.fit import cap_all, fits_now, max_bytes_for
from cohabit.core.lifecycle import COMING, State
from cohabit.core.memory_limits import NOISE
from cohabit.core.model_state import Model
from cohabit.core.queues import Request
from cohabit.core.state import SchedulerState
from cohabit.core.swap import stop, trim
from cohabit.core.timeouts import reject, reject_failed

FAILURES_IN_A_ROW = 3
PROBE_AFTER = 30.0  # seconds; doubled after each probe that fails
LATEST_PROBE = 600.0
PAUSE = 2.0
PAUSE_AFTER_OOM = 1.0


def ready(state: SchedulerState, event: WorkerReady, now: float) -> None:
    """A load or a wake has ended well; if the worker was told to stop meanwhile, it does not count."""
    model = state.workers.get(event.worker)
    if model is None or model.state not in COMING:
        return
    most = max_bytes_for(state, model)
    footprint = model.footprint
    if model.state is State.WAKING:
        footprint.learn_wake(event.idle, event.load_peak, event.seconds, most)
        model.usage.wakes += 1
    else:
        footprint.learn_load(event.idle, event.load_peak, event.seconds, prewarmed=event.prewarmed)
        model.usage.loads += 1
        if model.policy.copies:
            state.ledger.host_copy(event.worker, event.host_copy)  # 0: there was no memory for one after all
            footprint.learn_host_copy(event.host_copy)
    footprint.cap(most)
    state.loaded(model, event.idle, now)
    if model.policy.pin:
        cap_all(state)
        state.room_changed()


def slept(state: SchedulerState, event: Slept, now: float) -> None:
    """A model has let go of its weights; how much that freed is believed when a reading shows it."""
    model = state.workers.get(event.worker)
    if model is None or model.state is not State.ENTERING_SLEEP:
        return
    model.footprint.learn_sleep(event.held, event.seconds)
    state.slept(model, event.held, now)


def trimmed(state: SchedulerState, event: Trimmed, now: float) -> None:
    """A worker has given its caches back; the next reading shows how much that was."""
    model = state.workers.get(event.worker)
    if model is not None and state.account(model).trimming:
        state.trimmed(model, now)


def measured(state: SchedulerState, event: DeviceMeasured, now: float) -> None:
    """A reading of the device."""
    allowed = state.ledger.effective_budget
    changed = state.ledger.observe(event.at, event.total, event.available, event.workers)
    if state.unreadable is not None:
        state.device_found()
    if changed and (state.pinned or state.ledger.effective_budget != allowed):
        state.room_changed()
    for model in list(state.workers.values()):
        if model.state is State.SLEEPING:
            _check_sleeping(state, model, now)


def _check_sleeping(state: SchedulerState, model: Model, now: float) -> None:
    """A sleep that frees too little is none: the worker is stopped, then and from now on."""
    account, footprint = state.account(model), model.footprint
    if account.unconfirmed:
        return
    if account.cached:
        footprint.learn_sleeping(account.at_rest)
    if account.at_rest * 4 > footprint.idle.size * 3 and not model.queue:
        model.health.sleep_failed = True
        why = f"asleep it still held {account.at_rest >> 20} of {footprint.idle.size >> 20} MiB"
        stop(state, model, StopCause.SLEEP_FAILED, why, now)


def request_finished(state: SchedulerState, event: RequestFinished, now: float) -> None:
    """The engine is done with a request, cancelled or not."""
    model = state.workers[event.worker]
    request = state.requests[event.request]
    _note_peak(model, event.peak, now)
    state.run_ended(model, [request.id], now)
    state.forget(request)
    if model.run.requests:
        model.footprint.fade()
    else:
        _learn(state, model, event.peak)
    model.health.failures = model.health.deaths = 0
    if request.cancelled is None:
        model.footprint.run_seconds.add(event.seconds)


def request_failed(state: SchedulerState, event: RequestFailed, now: float) -> None:
    """The engine gave one item up; out of memory is tried once more, alone."""
    model = state.workers[event.worker]
    request = model.run.requests[event.request]
    _note_peak(model, event.peak, now, failed=True)
    state.run_ended(model, [request.id], now)
    if event.out_of_memory:
        _widen(state, model)
        if not model.run.requests and model.state is State.READY and not model.draining:
            trim(state, model, "it ran out of memory")
        _after_death(state, model, request, event.sent, event)
        return
    answered = request.ended
    state.forget(request)
    if not answered:
        reject(state, request, Rejection(RejectReason.ENGINE, f"{model.name} could not answer this request"))


def worker_exited(state: SchedulerState, event: WorkerExited, now: float) -> None:
    """A process is gone, asked for or not: release what was reserved for it, deal with what it held."""
    model = state.workers[event.worker]
    held = list(model.run.requests.values())
    worker_state = model.state
    asked = worker_state is State.STOPPING
    loading = worker_state in COMING | {State.PREWARMED}
    blameless = bool(held)
    if event.exceeded:
        blameless = _exceeded(state, model, event.exceeded, now, loading=loading)
    elif event.out_of_memory:
        _widen(state, model)
    if held:
        state.run_ended(model, list(model.run.requests), now)
    state.exited(model, event.exceeded, now)
    if asked and event.seconds > 0:
        model.footprint.exit_seconds.add(event.seconds)
    if not asked:
        _count(state, model, event, now, loading=loading, blameless=blameless)
    if worker_state in {State.WAKING, State.ENTERING_SLEEP} and not asked:
        model.health.sleep_failed = True
    for request in held:
        if request.id in event.blamed and not request.ended:
            state.forget(request)
            reject(state, request, Rejection(RejectReason.STALLED, f"{model.name} hung on this request; change it"))
            continue
        _after_death(state, model, request, request.id in event.sent, event)
    reject_failed(state, model, now)


def _note_peak(model: Model, peak: int, now: float, *, failed: bool = False) -> None:
    """A request has ended or failed. The process has held up to ``peak`` bytes since the busy period began."""
    period = model.run.busy_period
    assert period is not None, "something runs"
    period.failed |= failed
    if not period.overran and peak > period.given + NOISE:
        period.overran = True
        _count_overrun(model, peak, period.given, now)


def _count_overrun(model: Model, held: int, given: int, now: float) -> None:
    """A worker held more than it was given, in bytes."""
    model.health.overruns += 1
    model.health.overran_at = now
    model.health.overran = held, given


def _learn(state: SchedulerState, model: Model, peak: int) -> None:
    """The last run of a busy period has ended well."""
    period = model.run.busy_period
    assert period is not None, "something has run"
    if period.failed:
        model.footprint.fade()
        return
    model.footprint.learn_run(peak - state.account(model).idle, period.units)
    model.footprint.cap(max_bytes_for(state, model))


def _count(
    state: SchedulerState, model: Model, event: WorkerExited, now: float, *, loading: bool, blameless: bool
) -> None:
    health = model.health
    health.failure = event.detail
    if blameless:
        health.deaths += 1
        health.not_before = now if health.deaths == 1 else now + PAUSE
        return
    health.failures += 1
    lacked_memory = loading and event.out_of_memory
    if event.permanent or health.failures >= (2 if lacked_memory else FAILURES_IN_A_ROW):
        state.given_up(model, now)
        probes = max(0, health.failures - FAILURES_IN_A_ROW)
        health.not_before = now + min(PROBE_AFTER * 2**probes, LATEST_PROBE)
    elif lacked_memory:
        health.not_before = now + PAUSE_AFTER_OOM
    else:
        health.not_before = now if health.failures == 1 else now + PAUSE


def _widen(state: SchedulerState, model: Model) -> None:
    """Not if any worker exceeded what was reserved: then the model's own figures are not what was wrong."""
    if fits_now(state, 0):
        model.footprint.widen(max_bytes_for(state, model))


def _exceeded(state: SchedulerState, model: Model, held: int, now: float, *, loading: bool) -> bool:
    """Its worker was ended for holding more than its limit. Returns whether the model is not to blame: it was given
    too little, or it is what was sent to it."""
    _count_overrun(model, held, state.account(model).held, now)
    most = max_bytes_for(state, model)
    if loading:
        return model.footprint.learn_shortage(held, min(most, state.ledger.effective_budget))
    if not any(request.retried for request in model.run.requests.values()):  # else that one is the cause
        model.footprint.widen(most)
    return True


def _after_death(
    state: SchedulerState, model: Model, request: Request, sent: bool, event: WorkerExited | RequestFailed
) -> None:
    if not request.ended and not sent and not request.retried:
        state.requeue(request)
        return
    answered = request.ended
    state.forget(request)
    if not answered:
        reject(state, request, _blame(model, event, sent))


def _blame(model: Model, event: WorkerExited | RequestFailed, sent: bool) -> Rejection:
    """The error for a request that is not tried again."""
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
