"""What its owner asks of a model while the server runs: to come in, to sleep, to leave, to be pinned or not.

A model that is to come in is sought from then on like one that a client waits for, and has room made for it by the
same rules. One that is to leave is given nothing new, and leaves when what runs on it has ended; what waits for it
goes on waiting, and brings it back by the ordinary rules.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from cohabit.core.commands import StopCause
from cohabit.core.events import AdminRequest, LoadRequested, PinRequested, SleepRequested, UnloadRequested
from cohabit.core.fit import never_fits, pinned_idle_bytes
from cohabit.core.lifecycle import COMING, STAYS, State
from cohabit.core.state import Model, Reclaim, SchedulerState
from cohabit.core.swap import sleep, stop

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


def objection(state: SchedulerState, asked: AdminRequest) -> Objection | None:
    """Why it is not done; None if it is. The model must be there."""
    model = state.models[asked.model]
    if state.draining_until is not None:
        return Objection(Refusal.SHUTTING_DOWN, "the server is shutting down")
    match asked:
        case LoadRequested():
            if never_fits(state, model):
                what = f"{model.name} is larger than the budget leaves beside what is pinned"
                return Objection(Refusal.NEVER_FITS, what)
        case SleepRequested() | UnloadRequested():
            if model.policy.pin:
                return Objection(Refusal.PINNED, f"{model.name} is pinned; unpin it first")
            if isinstance(asked, SleepRequested):
                return _cannot_sleep(state, model)
        case PinRequested(pinned=True):
            return _leaves_no_room(state, model)
        case _:
            pass
    return None


def _cannot_sleep(state: SchedulerState, model: Model) -> Objection | None:
    if model.state in _GONE or model.state is State.PREWARMED:
        return Objection(Refusal.NOT_LOADED, f"{model.name} is not loaded")
    if not state.can_sleep(model):
        lacking = model.policy.sleeps and not model.sleep_failed
        why = " without a copy in host memory, for which there was no room (device.host_cache)" if lacking else ""
        return Objection(Refusal.CANNOT_SLEEP, f"{model.name} cannot sleep{why}; unload it instead")
    return None


def _leaves_no_room(state: SchedulerState, model: Model) -> Objection | None:
    if model.policy.pin:
        return None
    size = model.footprint.idle.size
    for other in state.models.values():
        most = other.footprint.peak + pinned_idle_bytes(state, other)
        if other is not model and most <= state.ledger.budget < most + size:
            return Objection(Refusal.NO_ROOM_LEFT, f"beside {model.name} there would be no room for {other.name}")
    return None


def handle_admin_request(state: SchedulerState, asked: AdminRequest, now: float) -> None:
    """Do what the owner asked for, or begin to."""
    if asked.model not in state.models or objection(state, asked) is not None:
        return
    model = state.models[asked.model]
    match asked:
        case LoadRequested():
            _load(model, now)
        case SleepRequested():
            _dismiss(state, model, Reclaim.SLEEP, now)
        case UnloadRequested():
            _dismiss(state, model, Reclaim.STOP, now)
        case _:
            _pin(state, model, asked.pinned)
    state.changed(model)


def unload_requested_models(state: SchedulerState, now: float) -> None:
    """Those who were told to leave, and have nothing to do any more, do."""
    for model in list(state.unload_requested.values()):
        if model.state is not State.READY or model.running or state.account(model).trimming:
            continue
        if model.unload_requested is Reclaim.SLEEP:
            sleep(state, model, StopCause.ADMIN, _WHY, now)
        else:
            stop(state, model, StopCause.ADMIN, _WHY, now)


def _load(model: Model, now: float) -> None:
    model.unload_requested = None
    if model.state not in STAYS:
        model.load_requested = True
        if model.load_requested_at is None:  # asked again he has waited since he asked first
            model.load_requested_at = now
        model.not_before = min(model.not_before, now)  # who failed may be tried now


def _dismiss(state: SchedulerState, model: Model, how: Reclaim, now: float) -> None:
    model.load_requested, model.load_requested_at = False, None
    if model.state is State.READY or (how is Reclaim.SLEEP and model.state in COMING):
        model.unload_requested = how
    elif how is Reclaim.STOP and model.state not in _GONE:
        stop(state, model, StopCause.ADMIN, _WHY, now)


def _pin(state: SchedulerState, model: Model, pinned: bool) -> None:
    model.policy = replace(model.policy, pin=pinned)
    state.pinned = [one for one in state.models.values() if one.policy.pin]
    if pinned:
        model.unload_requested = None
        swap = state.swap
        if swap is not None and model.worker in swap.victims:
            del swap.victims[model.worker]
            model.draining = False
    state.room_has_changed()
