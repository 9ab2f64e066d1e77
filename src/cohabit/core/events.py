"""Into the core. Every command ends in exactly one event, failure included.

SpawnWorker ends with the StartWorker or StopWorker that follows. StartWorker and WakeWorker end in WorkerReady,
SleepWorker in Slept, TrimWorker in Trimmed, and each of them instead in WorkerExited if the process ends first;
StopWorker in WorkerExited; each request of a Dispatch in RequestFinished, RequestFailed or, all together, in the
WorkerExited of its worker; SetTimer in TimerFired unless a later SetTimer replaced it. Reject and Cancel end nothing
of their own. What the operator asks for ends when the model is in that state; no event says so.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Started:
    """The control loop runs; what is to be preloaded may be."""


@dataclass(frozen=True, slots=True)
class RequestArrived:
    """A validated request. ``deadline`` is a time on the core's clock."""

    request: int
    model: str
    client: str = ""
    deadline: float | None = None
    batch: int | None = None  # those of one number came together and are answered together
    units: int = 0  # its size in what its engine measures work in; 0 where that does not matter
    background: bool = False  # nobody waits for it at this moment; ``deadline`` is when it expires
    size: int = 0  # bytes that are sent to its worker


@dataclass(frozen=True, slots=True)
class RequestCancelled:
    """Its client is gone."""

    request: int


@dataclass(frozen=True, slots=True)
class RequestFinished:
    """The engine is done with it, cancelled or not."""

    request: int
    worker: int
    seconds: float
    peak: int  # bytes of the worker's process while it ran


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """The engine gave it up. ``sent`` tells whether the client has had a part of the answer."""

    request: int
    worker: int
    sent: bool
    out_of_memory: bool = False
    peak: int = 0  # bytes of the worker's process while it ran; 0: not known


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A load or a wake has ended well. Bytes are of the worker's process, seconds from the command."""

    worker: int
    idle: int
    load_peak: int
    seconds: float
    host_copy: int = 0  # bytes in host memory, of a load that was to keep a copy
    prewarmed: int | None = None  # bytes that the process held before the load, with all imports; None: not known


@dataclass(frozen=True, slots=True)
class Slept:
    """The model has let go of its weights; ``held`` bytes of its process stay."""

    worker: int
    held: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Trimmed:
    """The worker has given back what its allocator kept; the next reading shows how much."""

    worker: int


@dataclass(frozen=True, slots=True)
class WorkerExited:
    """The process and its group are reaped, asked for or not; its memory is back.

    ``sent`` names those of its requests of which a client has had a part.
    """

    worker: int
    seconds: float  # since it was told to stop; 0 if it was not
    sent: frozenset[int] = frozenset()
    detail: str = ""
    out_of_memory: bool = False
    permanent: bool = False  # a start that cannot succeed however often it is tried
    blamed: frozenset[int] = frozenset()  # requests that made it hang, and are not tried again
    exceeded: int = 0  # bytes it held when it was ended for holding more than it may; 0: it was not


@dataclass(frozen=True, slots=True)
class DeviceMeasured:
    """One reading of the device, begun at ``at``."""

    at: float
    total: int
    available: int
    workers: dict[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeviceUnreadable:
    """The device has not been read for too long to rely on the last reading. The next one ends this."""

    detail: str  # one line for the operator: what was tried and failed


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The time asked for by SetTimer has come."""


@dataclass(frozen=True, slots=True)
class ShutdownRequested:
    """Take nothing new; what was accepted has ``drain`` seconds."""

    drain: float


@dataclass(frozen=True, slots=True)
class LoadRequested:
    """The operator wants a model to be loaded."""

    model: str


@dataclass(frozen=True, slots=True)
class SleepRequested:
    """The operator wants a model to sleep, once what runs on it has ended."""

    model: str


@dataclass(frozen=True, slots=True)
class UnloadRequested:
    """The operator wants a model to be stopped, once what runs on it has ended."""

    model: str


@dataclass(frozen=True, slots=True)
class PinRequested:
    """The operator wants a model never to be evicted, or to be treated like any other again."""

    model: str
    pinned: bool


AdminRequest = LoadRequested | SleepRequested | UnloadRequested | PinRequested

Event = (
    Started
    | RequestArrived
    | RequestCancelled
    | RequestFinished
    | RequestFailed
    | WorkerReady
    | Slept
    | Trimmed
    | WorkerExited
    | DeviceMeasured
    | DeviceUnreadable
    | TimerFired
    | ShutdownRequested
    | AdminRequest
)
