"""What workers and the device report of memory: a load or a wake has ended, a model sleeps, caches are trimmed, a
reading has come."""

from cohabit.core.commands import StopCause
from cohabit.core.events import DeviceMeasured, Slept, Trimmed, WorkerReady
from cohabit.core.footprints import Figure, Origin
from cohabit.core.lifecycle import COMING, Move, State
from cohabit.core.residency import stop
from cohabit.core.room import cap_all, most_for
from cohabit.core.state import Books, Model


def ready(books: Books, event: WorkerReady, now: float) -> None:
    """A load or a wake has ended well; told to stop meanwhile, it does not count."""
    model = books.workers.get(event.worker)
    if model is None or model.state not in COMING:
        return
    most = most_for(books, model)
    if model.state is State.WAKING:
        model.footprint.learn_wake(event.resident, event.load_peak, event.seconds, most)
        model.wakes += 1
    else:
        model.footprint.learn_load(event.resident, event.load_peak, event.seconds)
        model.loads += 1
        if event.spawned is not None:
            model.footprint.spawned = event.spawned
        if model.policy.copies:
            _note_copy(books, model, event)
    model.footprint.cap(most)
    model.entry = now - model.lifecycle.since
    model.lifecycle.move(Move.LOADED, now)
    books.ledger.settle(event.worker, event.resident)
    model.came_in = model.idle_since = model.last_used = now
    books.changed(model)
    if model.policy.pin:
        cap_all(books)
        books.room_has_changed()


def _note_copy(books: Books, model: Model, event: WorkerReady) -> None:
    """Where there was no memory for one after all, it goes on without."""
    books.ledger.copy(event.worker, event.copy)
    if event.copy:
        model.footprint.copy = Figure(event.copy, Origin.MEASURED)


def slept(books: Books, event: Slept, now: float) -> None:
    """A model has let go of its weights; how much that freed is believed when a reading shows it."""
    model = books.workers.get(event.worker)
    if model is None or model.state is not State.FALLING_ASLEEP:
        return
    model.lifecycle.move(Move.SLEPT, now)
    model.footprint.learn_sleep(event.held, event.seconds)
    books.ledger.sleep(event.worker, event.held, now)
    model.goes_out(now)
    books.changed(model)


def trimmed(books: Books, event: Trimmed, now: float) -> None:
    """A worker has given its caches back; how much that was the next reading shows."""
    model = books.workers.get(event.worker)
    if model is not None and books.account(model).trimming:
        books.ledger.trimmed(event.worker, now)
        books.changed(model)


def measured(books: Books, event: DeviceMeasured, now: float) -> None:
    """A reading of the device."""
    allowed = books.ledger.effective_budget
    changed = books.ledger.observe(event.at, event.total, event.available, event.workers)
    if books.unreadable is not None:
        books.unreadable = None
        books.room_has_changed()
    if changed and (books.pinned or books.ledger.effective_budget != allowed):
        books.room_has_changed()
    for model in list(books.resident):
        if model.state is State.ASLEEP:
            _check_asleep(books, model, now)


def _check_asleep(books: Books, model: Model, now: float) -> None:
    """A sleep that frees too little is none: the worker is stopped, then and from now on."""
    account, footprint = books.account(model), model.footprint
    if account.unconfirmed:
        return
    if account.cached:
        footprint.residue = Figure(account.at_rest, Origin.MEASURED)
    if account.at_rest * 4 > footprint.resident.size * 3 and not model.queue:
        model.sleep_failed = True
        why = f"asleep it still held {account.at_rest >> 20} of {footprint.resident.size >> 20} MiB"
        stop(books, model, StopCause.SLEEP_FAILED, why, now)
