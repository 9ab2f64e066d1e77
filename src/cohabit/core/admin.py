"""What the operator may ask of a model while the server runs: load, sleep, unload, pin, unpin.

A requested load waits like a client's request, and room is made for it by the same rules. A model that is to sleep or
to unload is given no new work, and leaves when its runs have ended. Its queue goes on waiting, and loads it again by
the ordinary rules.
"""

from dataclasses import dataclass
from enum import StrEnum

from cohabit.core.commands import StopCause
from cohabit.core.events import AdminRequest, LoadRequested, PinRequested, SleepRequested, UnloadRequested
from cohabit.core.fit import never_fits, pinned_idle_bytes
from cohabit.core.lifecycle import COMING, STAYS, State
from cohabit.core.model_state import Model, Reclaim
from cohabit.core.state import SchedulerState
from cohabit.core.swap import sleep, stop

_WHY = "the operator asked for it"
_GONE = frozenset({State.STOPPED, State.FAILED, State.STOPPING})


class AdminRefusal(StrEnum):
    """Why a request of the operator is refused; the value is the API's code."""

    SHUTTING_DOWN = "shutting_down"
    NEVER_FITS = "model_never_fits"
    PINNED = "model_pinned"
    CANNOT_SLEEP = "model_cannot_sleep"
    NOT_LOADED = "model_not_loaded"
    NO_ROOM_LEFT = "pin_leaves_no_room"


@dataclass(frozen=True, slots=True)
class Objection:
    """Why it is refused, and what would help."""

    refusal: AdminRefusal
    detail: str


def objection(state: SchedulerState, asked: AdminRequest) -> Objection | None:
    """Why it is refused; None if it is done. Raises KeyError for an unknown model."""
    model = state.models[asked.model]
    if state.draining_until is not None:
        return Objection(AdminRefusal.SHUTTING_DOWN, "the server is shutting down")
    match asked:
        case LoadRequested():
            if never_fits(state, model):
                what = f"{model.name} is larger than the budget leaves beside what is pinned"
                return Objection(AdminRefusal.NEVER_FITS, what)
        case SleepRequested() | UnloadRequested():
            if model.policy.pin:
                return Objection(AdminRefusal.PINNED, f"{model.name} is pinned; unpin it first")
            if isinstance(asked, SleepRequested):
                return _cannot_sleep(state, model)
        case PinRequested(pinned=True):
            return _leaves_no_room(state, model)
        case _:
            pass
    return None


def _cannot_sleep(state: SchedulerState, model: Model) -> Objection | None:
    if model.state in _GONE or model.state is State.PREWARMED:
        return Objection(AdminRefusal.NOT_LOADED, f"{model.name} is not loaded")
    if not state.can_sleep(model):
        lacking = model.policy.sleeps and not model.health.sleep_failed
        why = " without a copy in host memory, for which there was no room (device.host_cache)" if lacking else ""
        return Objection(AdminRefusal.CANNOT_SLEEP, f"{model.name} cannot sleep{why}; unload it instead")
    return None


def _leaves_no_room(state: SchedulerState, model: Model) -> Objection | None:
    if model.policy.pin:
        return None
    size = model.footprint.idle.size
    for other in state.models.values():
        most = other.footprint.peak + pinned_idle_bytes(state, other)
        if other is not model and most <= state.ledger.budget < most + size:
            return Objection(
                AdminRefusal.NO_ROOM_LEFT, f"beside {model.name} there would be no room for {other.name}"
            )
    return None


def handle_admin_request(state: SchedulerState, asked: AdminRequest, now: float) -> None:
    """Do what the operator asked for, or begin to."""
    if asked.model not in state.models or objection(state, asked) is not None:
        return
    model = state.models[asked.model]
    match asked:
        case LoadRequested():
            _load(state, model, now)
        case SleepRequested():
            _unload(state, model, Reclaim.SLEEP, now)
        case UnloadRequested():
            _unload(state, model, Reclaim.STOP, now)
        case _:
            state.pin(model, pinned=asked.pinned)


def unload_idle(state: SchedulerState, now: float) -> None:
    """Unload or put to sleep the idle models for which the operator asked that."""
    for model in list(state.leaving.values()):
        if model.state is not State.READY or model.busy or state.account(model).trimming:
            continue
        if model.unload_requested is Reclaim.SLEEP:
            sleep(state, model, StopCause.ADMIN, _WHY, now)
        else:
            stop(state, model, StopCause.ADMIN, _WHY, now)


def _load(state: SchedulerState, model: Model, now: float) -> None:
    state.unload_wanted(model, None)
    if model.state not in STAYS:
        asked_first = model.load_requested_at
        state.load_wanted(model, now if asked_first is None else asked_first)
        model.health.not_before = min(model.health.not_before, now)  # a model that failed may be tried now


def _unload(state: SchedulerState, model: Model, how: Reclaim, now: float) -> None:
    state.load_unwanted(model)
    if model.state is State.READY or (how is Reclaim.SLEEP and model.state in COMING):
        state.unload_wanted(model, how)
    elif how is Reclaim.STOP and model.state not in _GONE:
        stop(state, model, StopCause.ADMIN, _WHY, now)
