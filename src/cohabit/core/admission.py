"""Branch 1 of the decision tree: may this request be queued at all?

1.1 unknown model · 1.2 shutting down · 1.3 the model can never fit · 1.4 the model has failed and it is not yet
time to try again · 1.5 its queue is full (but for background work) · 1.6 its deadline has passed.
"""

from cohabit.core.commands import Rejection, RejectReason
from cohabit.core.events import RequestArrived
from cohabit.core.explain import expected_wait
from cohabit.core.fit import never_fits, pinned_idle_bytes
from cohabit.core.lifecycle import State
from cohabit.core.model_state import Model
from cohabit.core.state import SchedulerState

SHUTTING_DOWN = Rejection(RejectReason.SHUTTING_DOWN, "the server is shutting down", retry_after=10.0)


def refuse(state: SchedulerState, asked: RequestArrived, now: float) -> Rejection | None:
    """Why a request may not be queued; None if it may."""
    name = asked.model
    model = state.models.get(name)
    if model is None:
        return Rejection(RejectReason.UNKNOWN_MODEL, f"there is no model {name!r}")
    if state.draining_until is not None:
        return SHUTTING_DOWN
    if never_fits(state, model):
        return never_fitting(state, model)
    if model.state is State.FAILED and now < model.health.not_before:
        return failed(model, now)
    waiting = model.queue.interactive.count
    if not asked.background and waiting >= model.policy.queue_limit:
        return Rejection(
            RejectReason.QUEUE_FULL,
            f"{waiting} requests wait for {name} already; try again later or raise queue_limit",
            retry_after=expected_wait(state, model, 1 + waiting // 2, now),
        )
    if asked.deadline is not None and asked.deadline <= now:
        return past_deadline(name)
    return None


def never_fitting(state: SchedulerState, model: Model) -> Rejection:
    """It is larger than what the device has for it."""
    pinned = pinned_idle_bytes(state, model)
    allowed = state.ledger.effective_budget - pinned
    detail = (
        f"{model.name} needs {model.footprint.peak >> 20} MiB and the budget now allows "
        f"{max(0, allowed) >> 20} MiB{' beside what is pinned' if pinned else ''}"
    )
    if model.footprint.was_measured:
        detail += "; the operator sees what was measured with `cohabit footprints list`"
    return Rejection(RejectReason.NEVER_FITS, detail, retry_after=60.0)


def unreadable(model: Model) -> Rejection:
    """Nobody knows how much memory is free."""
    return Rejection(
        RejectReason.DEVICE_UNREADABLE,
        f"{model.name} cannot be given memory, since that of the device cannot be read; the server's log says why",
        retry_after=10.0,
    )


def failed(model: Model, now: float) -> Rejection:
    """Its worker does not come up."""
    return Rejection(
        RejectReason.MODEL_FAILED,
        f"{model.name} does not start; the server's log and /admin/status say why",
        retry_after=max(1.0, model.health.not_before - now),
    )


def past_deadline(name: str) -> Rejection:
    """The client's own limit has passed."""
    return Rejection(RejectReason.DEADLINE, f"the request's own time limit passed while it waited for {name}", 1.0)
