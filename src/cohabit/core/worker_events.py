"""What workers and the device report of memory: a load or a wake has ended, a model sleeps, caches are trimmed, a
reading has come."""

from cohabit.core.commands import StopCause
from cohabit.core.events import DeviceMeasured, Slept, Trimmed, WorkerReady
from cohabit.core.fit import cap_all, max_bytes_for
from cohabit.core.footprints import Figure, Origin
from cohabit.core.lifecycle import COMING, Move, State
from cohabit.core.state import Model, SchedulerState
from cohabit.core.swap import stop


def ready(state: SchedulerState, event: WorkerReady, now: float) -> None:
    """A load or a wake has ended well; told to stop meanwhile, it does not count."""
    model = state.workers.get(event.worker)
    if model is None or model.state not in COMING:
        return
    most = max_bytes_for(state, model)
    if model.state is State.WAKING:
        model.footprint.learn_wake(event.idle, event.load_peak, event.seconds, most)
        model.wakes += 1
    else:
        model.footprint.learn_load(event.idle, event.load_peak, event.seconds)
        model.loads += 1
        if event.prewarmed is not None:
            model.footprint.prewarmed = event.prewarmed
        if model.policy.copies:
            _note_copy(state, model, event)
    model.footprint.cap(most)
    model.load_duration = now - model.lifecycle.since
    model.lifecycle.move(Move.LOADED, now)
    state.ledger.settle(event.worker, event.idle)
    model.loaded_at = model.idle_since = model.last_used = now
    state.changed(model)
    if model.policy.pin:
        cap_all(state)
        state.room_has_changed()


def _note_copy(state: SchedulerState, model: Model, event: WorkerReady) -> None:
    """Where there was no memory for one after all, it goes on without."""
    state.ledger.host_copy(event.worker, event.host_copy)
    if event.host_copy:
        model.footprint.host_copy = Figure(event.host_copy, Origin.MEASURED)


def slept(state: SchedulerState, event: Slept, now: float) -> None:
    """A model has let go of its weights; how much that freed is believed when a reading shows it."""
    model = state.workers.get(event.worker)
    if model is None or model.state is not State.ENTERING_SLEEP:
        return
    model.lifecycle.move(Move.SLEPT, now)
    model.footprint.learn_sleep(event.held, event.seconds)
    state.ledger.sleep(event.worker, event.held, now)
    model.note_unloaded(now)
    state.changed(model)


def trimmed(state: SchedulerState, event: Trimmed, now: float) -> None:
    """A worker has given its caches back; how much that was the next reading shows."""
    model = state.workers.get(event.worker)
    if model is not None and state.account(model).trimming:
        state.ledger.trimmed(event.worker, now)
        state.changed(model)


def measured(state: SchedulerState, event: DeviceMeasured, now: float) -> None:
    """A reading of the device."""
    allowed = state.ledger.effective_budget
    changed = state.ledger.observe(event.at, event.total, event.available, event.workers)
    if state.unreadable is not None:
        state.unreadable = None
        state.room_has_changed()
    if changed and (state.pinned or state.ledger.effective_budget != allowed):
        state.room_has_changed()
    for model in list(state.with_process):
        if model.state is State.SLEEPING:
            _check_asleep(state, model, now)


def _check_asleep(state: SchedulerState, model: Model, now: float) -> None:
    """A sleep that frees too little is none: the worker is stopped, then and from now on."""
    account, footprint = state.account(model), model.footprint
    if account.unconfirmed:
        return
    if account.cached:
        footprint.sleep_resident = Figure(account.at_rest, Origin.MEASURED)
    if account.at_rest * 4 > footprint.idle.size * 3 and not model.queue:
        model.sleep_failed = True
        why = f"asleep it still held {account.at_rest >> 20} of {footprint.idle.size >> 20} MiB"
        stop(state, model, StopCause.SLEEP_FAILED, why, now)
