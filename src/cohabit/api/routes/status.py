"""The shape of ``/admin/status``: what ``core.snapshot`` and ``runtime.server`` tell, for the document of the API.

Bytes and seconds. ``Status.version`` goes up when a field changes its meaning or goes away; new ones may come.
"""

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from cohabit.core.footprints import Origin
from cohabit.core.lifecycle import State
from cohabit.core.snapshot import Severity
from cohabit.protocol.tasks import Task

Bytes = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]


class DeviceStatus(Struct, kw_only=True):
    """What all models share."""

    name: Annotated[str, Meta(description="`cpu`, or `cuda:` and a number.")]
    total: Annotated[Bytes | None, Meta(description="None before the first reading.")]
    budget: Annotated[Bytes, Meta(description="What all models may hold together.")]
    keep_free: Annotated[Bytes, Meta(description="Left to others.")]
    effective_budget: Annotated[Bytes, Meta(description="What may be held now, with what others hold.")]
    reserved: Annotated[Bytes, Meta(description="Promised to models.")]
    headroom: Annotated[Bytes, Meta(description="What of `effective_budget` is left.")]
    unreturned: Annotated[Bytes, Meta(description="Of `reserved`, by workers that have ended: not seen free yet.")]
    foreign: Annotated[Bytes, Meta(description="Held by others.")]
    host_cache: Annotated[Bytes, Meta(description="What copies may take of the host's memory; 0 on cpu.")]
    host_copies: Annotated[Bytes, Meta(description="What they take.")]
    compute_slots: Count
    slots_used: Count


class FootprintFigure(Struct, kw_only=True):
    """Bytes, and who says so."""

    bytes: Bytes
    origin: Origin


class FootprintStatus(Struct, kw_only=True):
    """What a model needs."""

    idle: Annotated[FootprintFigure, Meta(description="While it is ready and idle.")]
    load: Annotated[FootprintFigure, Meta(description="The peak while it loads.")]
    inference: Annotated[FootprintFigure, Meta(description="While it runs, idle bytes included.")]
    sleeping: Annotated[FootprintFigure | UnsetType, Meta(description="While it sleeps; once known.")] = UNSET
    host_copy: Annotated[
        FootprintFigure | UnsetType, Meta(description="In host memory, if it wakes from a copy.")
    ] = UNSET


class ModelStatus(Struct, kw_only=True):
    """One model, what is booked for it and what it did."""

    name: str
    device: Annotated[str, Meta(description="The name of its device.")]
    engine: str
    tasks: list[Task]
    aliases: list[str]
    pid: Annotated[int | None, Meta(description="Of its worker; none where there is no process.")]
    state: State
    since_seconds: Annotated[Seconds, Meta(description="In that state.")]
    draining: Annotated[bool, Meta(description="Takes nothing new: it makes room, or was told to leave.")]
    pinned: bool
    reserved: Annotated[Bytes, Meta(description="Promised to it now.")]
    load: Annotated[Bytes, Meta(description="Of it, for a load under way.")]
    idle: Annotated[Bytes, Meta(description="Of it, while it is ready or sleeps.")]
    activation: Annotated[Bytes, Meta(description="Of it, for what runs.")]
    cached: Annotated[Bytes, Meta(description="Kept by its allocator, or not yet seen free.")]
    host_copy: Annotated[Bytes, Meta(description="In host memory, to wake from.")]
    footprint: FootprintStatus
    margin: Annotated[Bytes, Meta(description="Allowed beyond what it needs, since it ran out of memory.")]
    load_seconds: Annotated[Seconds, Meta(description="What a load takes.")]
    wake_seconds: Annotated[Seconds, Meta(description="What waking takes.")]
    in_flight: Count
    waiting: Count
    loads: Count
    wakes: Count
    overruns: Annotated[Count, Meta(description="Times its worker held more than it was given.")]
    last_eviction: Annotated[str, Meta(description="Why; empty if there was none.")]
    failure: Annotated[str, Meta(description="Why it fails; empty if it does not.")]


class _Accepted(Struct, kw_only=True):
    id: int
    model: str
    background: Annotated[bool, Meta(description="Nobody waits for it now; it gives way.")]
    waited_seconds: Seconds


class WaitingRequest(_Accepted, kw_only=True, tag_field="state", tag="waiting"):
    """In the queue of its model."""

    position: Annotated[int, Meta(ge=1)]
    waits_for: Annotated[str, Meta(description="In words.")]
    expected_seconds: Annotated[Seconds, Meta(description="About how long until it runs.")]


class RunningRequest(_Accepted, kw_only=True, tag_field="state", tag="running"):
    """With its model's worker."""

    running_seconds: Seconds


class CancelledRequest(RunningRequest, kw_only=True, tag="cancelled"):
    """One that its client wants no more, and that has not ended in the worker yet."""


class SwapStatus(Struct, kw_only=True):
    """Room that is being made for a model."""

    model: Annotated[str, Meta(description="For whom.")]
    since_seconds: Seconds
    need: Bytes
    victims: Annotated[list[str], Meta(description="Who leaves for it.")]
    why: str


class AlertStatus(Struct, kw_only=True):
    """What the operator should know."""

    code: Annotated[str, Meta(description="Stable, for programs.")]
    severity: Severity
    model: Annotated[str, Meta(description="Empty if it is about the whole server.")]
    text: Annotated[str, Meta(description="One sentence.")]


class Status(Struct, kw_only=True):
    """Who holds the memory, who waits and for what. Never a prompt or an answer."""

    version: Annotated[Literal[2], Meta(description="Of this shape.")] = field(name="schema")
    devices: Annotated[list[DeviceStatus], Meta(description="One entry now.")]
    models: list[ModelStatus]
    requests: Annotated[
        list[WaitingRequest | RunningRequest | CancelledRequest],
        Meta(description="The first of each model; `waiting` and `in_flight` of the models count all."),
    ]
    swap: SwapStatus | None
    alerts: list[AlertStatus]
    shutting_down: bool
