"""The shape of ``/admin/status``: what ``core.snapshot`` and ``runtime.server`` tell, for the document of the API.

Bytes and seconds. ``Status.version`` goes up when a field changes its meaning or goes away; new ones may come.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from cohabit.core.footprints import Origin
from cohabit.core.lifecycle import State
from cohabit.core.snapshot import Severity
from cohabit.protocol.tasks import Task

Bytes = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


class DeviceStatus(BaseModel):
    """What all models share."""

    name: str = Field(description="`cpu`, or `cuda:` and a number.")
    total: Bytes | None = Field(description="None before the first reading.")
    budget: Bytes = Field(description="What all models may hold together.")
    keep_free: Bytes = Field(description="Left to others.")
    effective_budget: Bytes = Field(description="What may be held now, with what others hold.")
    reserved: Bytes = Field(description="Promised to models.")
    headroom: Bytes = Field(description="What of `effective_budget` is left.")
    unreturned: Bytes = Field(description="Of `reserved`, by workers that have ended: not seen free yet.")
    foreign: Bytes = Field(description="Held by others.")
    host_cache: Bytes = Field(description="What copies may take of the host's memory; 0 on cpu.")
    host_copies: Bytes = Field(description="What they take.")
    compute_slots: Count
    slots_used: Count


class FootprintFigure(BaseModel):
    """Bytes, and who says so."""

    bytes: Bytes
    origin: Origin


class FootprintStatus(BaseModel):
    """What a model needs."""

    idle: FootprintFigure = Field(description="While it is ready and idle.")
    load: FootprintFigure = Field(description="The peak while it loads.")
    inference: FootprintFigure = Field(description="While it runs, idle bytes included.")
    sleeping: FootprintFigure | None = Field(None, description="While it sleeps; once known.")
    host_copy: FootprintFigure | None = Field(None, description="In host memory, if it wakes from a copy.")


class ModelStatus(BaseModel):
    """One model, what is booked for it and what it did."""

    name: str
    device: str = Field(description="The name of its device.")
    engine: str
    tasks: list[Task]
    aliases: list[str]
    pid: int | None = Field(description="Of its worker; none where there is no process.")
    state: State
    since_seconds: Seconds = Field(description="In that state.")
    draining: bool = Field(description="Takes nothing new: it makes room, or was told to leave.")
    pinned: bool
    reserved: Bytes = Field(description="Promised to it now.")
    load: Bytes = Field(description="Of it, for a load under way.")
    idle: Bytes = Field(description="Of it, while it is ready or sleeps.")
    activation: Bytes = Field(description="Of it, for what runs.")
    cached: Bytes = Field(description="Kept by its allocator, or not yet seen free.")
    host_copy: Bytes = Field(description="In host memory, to wake from.")
    footprint: FootprintStatus
    margin: Bytes = Field(description="Allowed beyond what it needs, since it ran out of memory.")
    load_seconds: Seconds = Field(description="What a load takes.")
    wake_seconds: Seconds = Field(description="What waking takes.")
    in_flight: Count
    waiting: Count
    loads: Count
    wakes: Count
    overruns: Count = Field(description="Times its worker held more than it was given.")
    last_eviction: str = Field(description="Why; empty if there was none.")
    failure: str = Field(description="Why it fails; empty if it does not.")


class _Accepted(BaseModel):
    id: int
    model: str
    background: bool = Field(description="Nobody waits for it now; it gives way.")
    waited_seconds: Seconds


class WaitingRequest(_Accepted):
    """In the queue of its model."""

    state: Literal["waiting"]
    position: Annotated[int, Field(ge=1)]
    waits_for: str = Field(description="In words.")
    expected_seconds: Seconds = Field(description="About how long until it runs.")


class RunningRequest(_Accepted):
    """With its model's worker; a cancelled one has not ended there yet."""

    state: Literal["running", "cancelled"]
    running_seconds: Seconds


class SwapStatus(BaseModel):
    """Room that is being made for a model."""

    model: str = Field(description="For whom.")
    since_seconds: Seconds
    need: Bytes
    victims: list[str] = Field(description="Who leaves for it.")
    why: str


class AlertStatus(BaseModel):
    """What the operator should know."""

    code: str = Field(description="Stable, for programs.")
    severity: Severity
    model: str = Field(description="Empty if it is about the whole server.")
    text: str = Field(description="One sentence.")


class Status(BaseModel):
    """Who holds the memory, who waits and for what. Never a prompt or an answer."""

    version: Literal[2] = Field(alias="schema", description="Of this shape.")
    devices: list[DeviceStatus] = Field(description="One entry now.")
    models: list[ModelStatus]
    requests: list[Annotated[WaitingRequest | RunningRequest, Field(discriminator="state")]] = Field(
        description="The first of each model; `waiting` and `in_flight` of the models count all."
    )
    swap: SwapStatus | None
    alerts: list[AlertStatus]
    shutting_down: bool
