"""What its owner asks of a model while the server runs: to come in, to sleep, to leave, to be pinned or not.

A model that is to come in is sought from then on like one that a client waits for, and has room made for it by the
same rules. One that is to leave is given nothing new, and leaves when what runs on it has ended; what waits for it
goes on waiting, and brings it back by the ordinary rules.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from cohabit.core.commands import StopCause
from cohabit.core.events import LoadRequested, OwnerRequest, PinRequested, SleepRequested, UnloadRequested
from cohabit.core.exits import Exit
from cohabit.core.lifecycle import COMING, STAYS, State
from cohabit.core.residency import sleep, stop
from cohabit.core.room import never_fits, pinned_resident
from cohabit.core.state import Books, Model

_WHY = "its owner asked for it"
_GONE = frozenset({State.STOPPED, State.FAILED, State.STOPPING})


class Refusal(StrEnum):
    """Why the owner's word cannot be followed; the value is the API's code."""

    SHUTTING_DOWN = "shutting_down"
    NEVER_FITS = "model_never_fits"
    PINNED = "model_pinned"
    CANNOT_SLEEP = "model_cannot_sleep"
    NOT_LOADED = "model_not_loaded"
    NO_ROOM_LEFT = "pin_leaves_no_room"


@dataclass(frozen=True, slots=True)
class Objection:
    """What is in the way, and what would do."""

    refusal: Refusal
    detail: str


def objection(books: Books, asked: OwnerRequest) -> Objection | None:
    """Why it is not done; None if it is. The model must be there."""
    model = books.models[asked.model]
    if books.draining_until is not None:
        return Objection(Refusal.SHUTTING_DOWN, "the server is shutting down")
    match asked:
        case LoadRequested():
            if never_fits(books, model):
                what = f"{model.name} is larger than the budget leaves beside what is pinned"
                return Objection(Refusal.NEVER_FITS, what)
        case SleepRequested() | UnloadRequested():
            if model.policy.pin:
                return Objection(Refusal.PINNED, f"{model.name} is pinned; unpin it first")
            if isinstance(asked, SleepRequested):
                return _cannot_sleep(books, model)
        case PinRequested(pinned=True):
            return _leaves_no_room(books, model)
        case _:
            pass
    return None


def _cannot_sleep(books: Books, model: Model) -> Objection | None:
    if model.state in _GONE or model.state is State.SPAWNED:
        return Objection(Refusal.NOT_LOADED, f"{model.name} is not loaded")
    if not books.can_sleep(model):
        lacking = model.policy.sleeps and not model.sleep_failed
        why = " without a copy in host memory, for which there was no room (device.host_cache)" if lacking else ""
        return Objection(Refusal.CANNOT_SLEEP, f"{model.name} cannot sleep{why}; unload it instead")
    return None


def _leaves_no_room(books: Books, model: Model) -> Objection | None:
    if model.policy.pin:
        return None
    size = model.footprint.resident.size
    for other in books.models.values():
        most = other.footprint.peak + pinned_resident(books, other)
        if other is not model and most <= books.ledger.budget < most + size:
            return Objection(Refusal.NO_ROOM_LEFT, f"beside {model.name} there would be no room for {other.name}")
    return None


def follow(books: Books, asked: OwnerRequest, now: float) -> None:
    """Do what the owner asked for, or begin to."""
    if asked.model not in books.models or objection(books, asked) is not None:
        return
    model = books.models[asked.model]
    match asked:
        case LoadRequested():
            _load(model, now)
        case SleepRequested():
            _dismiss(books, model, Exit.SLEEP, now)
        case UnloadRequested():
            _dismiss(books, model, Exit.STOP, now)
        case _:
            _pin(books, model, asked.pinned)
    books.changed(model)


def leave_as_told(books: Books, now: float) -> None:
    """Those who were told to leave, and have nothing to do any more, do."""
    for model in list(books.dismissed.values()):
        if model.state is not State.READY or model.running or books.account(model).trimming:
            continue
        if model.dismissed is Exit.SLEEP:
            sleep(books, model, StopCause.OWNER, _WHY, now)
        else:
            stop(books, model, StopCause.OWNER, _WHY, now)


def _load(model: Model, now: float) -> None:
    model.dismissed = None
    if model.state not in STAYS:
        model.wanted = True
        if model.wanted_since is None:  # asked again he has waited since he asked first
            model.wanted_since = now
        model.not_before = min(model.not_before, now)  # who failed may be tried now


def _dismiss(books: Books, model: Model, how: Exit, now: float) -> None:
    model.wanted, model.wanted_since = False, None
    if model.state is State.READY or (how is Exit.SLEEP and model.state in COMING):
        model.dismissed = how
    elif how is Exit.STOP and model.state not in _GONE:
        stop(books, model, StopCause.OWNER, _WHY, now)


def _pin(books: Books, model: Model, pinned: bool) -> None:
    model.policy = replace(model.policy, pin=pinned)
    books.pinned = [one for one in books.models.values() if one.policy.pin]
    if pinned:
        model.dismissed = None
        claim = books.claim
        if claim is not None and model.worker in claim.victims:
            del claim.victims[model.worker]
            model.draining = False
    books.room_has_changed()
