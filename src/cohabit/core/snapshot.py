"""The core's state as plain data, for the page, the status command and the logs. A versioned schema."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import chain, count, islice
from typing import Any

from cohabit.core.explain import expected_waits, waits_for
from cohabit.core.ledger import Account
from cohabit.core.model_state import Model
from cohabit.core.state import SchedulerState

SCHEMA = 2
LISTED = 100  # requests of each model, unless asked for more or fewer
MAX_LISTED = 1000  # of all models
TELL_SECONDS = 600.0  # for so long an alert tells of a worker that held too much
RETURN_SECONDS = 10.0  # by then a device shows the memory of a dead process as free


def snapshot(state: SchedulerState, now: float, device: str, listed: int | None = None) -> dict[str, Any]:
    """Bytes and seconds; names, counts and reasons, never a prompt or an answer. ``device`` is the device's name.

    ``listed`` requests of each model that wait, the next ones, and as many that run; MAX_LISTED of all models. None:
    every one, however many there are.
    """
    ledger, swap = state.ledger, state.swap
    requests = chain.from_iterable(
        chain(_waiting(state, model, now, listed), _running(model, now, listed)) for model in state.models.values()
    )
    return {
        "schema": SCHEMA,
        "devices": [
            {
                "name": device,
                "total": ledger.total,
                "budget": ledger.budget,
                "keep_free": ledger.keep_free,
                "effective_budget": ledger.effective_budget,
                "reserved": ledger.reserved,
                "headroom": max(0, ledger.effective_budget - ledger.reserved),
                "unreturned": ledger.unreturned,
                "foreign": ledger.foreign,
                "host_cache": ledger.host_cache,
                "host_copies": ledger.copied,
                "compute_slots": ledger.slots,
                "slots_used": ledger.slots_used,
            }
        ],
        "models": [{**_model(state, model, now), "device": device} for model in state.models.values()],
        "requests": list(requests if listed is None else islice(requests, MAX_LISTED)),
        "swap": swap
        and {
            "model": swap.model,
            "since_seconds": now - swap.since,
            "need": swap.need,
            "victims": [state.workers[worker].name for worker in swap.victims if worker in state.workers],
            "why": swap.why,
        },
        "alerts": [asdict(alert) for alert in alerts(state, now)],
        "shutting_down": state.draining_until is not None,
    }


def _model(state: SchedulerState, model: Model, now: float) -> dict[str, Any]:
    ledger = state.ledger
    account = ledger.accounts[model.worker] if model.worker is not None else Account()
    footprint = model.footprint
    return {
        "name": model.name,
        "state": model.state,
        "since_seconds": now - model.lifecycle.since,
        "draining": model.draining or model.unload_requested is not None,
        "pinned": model.policy.pin,
        "reserved": account.held,
        "load": account.load,
        "idle": account.idle,
        "activation": account.activation,
        "cached": max(account.cached, account.unconfirmed),
        "host_copy": ledger.copies.get(model.worker, 0) if model.worker is not None else 0,
        "footprint": {
            part: {"bytes": figure.size, "origin": figure.origin}
            for part, figure in (
                ("idle", footprint.idle),
                ("load", footprint.load),
                ("inference", footprint.inference),
                ("sleeping", footprint.sleep_resident),
                ("host_copy", footprint.host_copy),
            )
            if figure is not None
        },
        "margin": footprint.margin,
        "load_seconds": footprint.load_seconds.value,
        "wake_seconds": footprint.wake_seconds.value,
        "in_flight": len(model.run.requests),
        "waiting": len(model.queue),
        "loads": model.usage.loads,
        "wakes": model.usage.wakes,
        "last_eviction": model.usage.last_eviction,
        "failure": model.health.failure,
        "overruns": model.health.overruns,
    }


def _waiting(state: SchedulerState, model: Model, now: float, listed: int | None) -> Iterator[dict[str, Any]]:
    if not model.queue or listed == 0:
        return
    reason = waits_for(state, model, now)
    first = enumerate(islice(model.queue, listed), start=1)
    for (position, request), expected in zip(first, expected_waits(state, model, count(1), now), strict=False):
        yield {
            "id": request.id,
            "model": model.name,
            "state": "waiting",
            "background": request.background,
            "position": position,
            "waited_seconds": now - request.arrived,
            "waits_for": reason,
            "expected_seconds": expected,
        }


def _running(model: Model, now: float, listed: int | None) -> Iterator[dict[str, Any]]:
    for request in islice(model.run.requests.values(), listed):
        assert request.dispatched is not None
        yield {
            "id": request.id,
            "model": model.name,
            "state": "cancelled" if request.ended else "running",
            "background": request.background,
            "waited_seconds": request.dispatched - request.arrived,
            "running_seconds": now - request.dispatched,
        }


class Severity(StrEnum):
    """``critical``: requests fail or wait; ``warning``: somebody should look at it."""

    CRITICAL = "critical"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Alert:
    """What the operator should know. ``code`` is stable, ``text`` is one sentence; ``model`` is empty if the alert is
    about the whole server."""

    code: str
    severity: Severity
    text: str
    model: str = ""


def alerts(state: SchedulerState, now: float) -> Iterator[Alert]:
    """What the core can tell; the shell has alerts of its own."""
    ledger = state.ledger
    if state.unreadable is not None:
        text = f"the device cannot be read, so no model is loaded: {state.unreadable}"
        yield Alert("device_unreadable", Severity.CRITICAL, text)
    if ledger.reserved > ledger.effective_budget:
        short = ledger.reserved - ledger.effective_budget
        text = f"{short >> 20} MiB more are reserved than the device now allows; no model is loaded"
        yield Alert("over_budget", Severity.WARNING, text)
    if ledger.unreturned and ledger.unreturned_since is not None and now - ledger.unreturned_since > RETURN_SECONDS:
        text = f"the device still holds {ledger.unreturned >> 20} MiB of workers that have ended"
        yield Alert("memory_not_returned", Severity.WARNING, text)
    if ledger.copied > ledger.host_cache:
        over = ledger.copied - ledger.host_cache
        text = f"copies of weights take {over >> 20} MiB more of host memory than device.host_cache allows"
        yield Alert("host_cache_exceeded", Severity.WARNING, text)
    for model in state.models.values():
        name = model.name
        if model.footprint.margin:
            text = f"{name} ran out of memory; {model.footprint.margin >> 20} MiB more are allowed for it"
            yield Alert("model_out_of_memory", Severity.WARNING, text, name)
        if model.health.sleep_failed:
            yield Alert("model_cannot_sleep", Severity.WARNING, f"{name} cannot sleep: it is stopped instead", name)
        if now - model.health.overran_at < TELL_SECONDS:
            held, given = (size >> 20 for size in model.health.overran)
            times = "once" if model.health.overruns == 1 else f"{model.health.overruns} times"
            text = f"{name} held {held} MiB where {given} MiB were reserved ({times} since the start)"
            yield Alert("model_exceeded_reservation", Severity.WARNING, text, name)
