"""Out of the core; the shell carries them out and answers each with an event (see ``events``)."""

from dataclasses import dataclass
from enum import StrEnum


class RejectReason(StrEnum):
    """Stable names; clients see them as the ``code`` of an error."""

    UNKNOWN_MODEL = "model_not_found"
    NEVER_FITS = "model_never_fits"  # larger than what the device has for us
    DEVICE_UNREADABLE = "device_unreadable"  # nobody knows how much memory is free
    QUEUE_FULL = "queue_full"
    DEADLINE = "deadline_exceeded"  # the client's own time limit passed while waiting
    SHUTTING_DOWN = "shutting_down"
    SERVER_FAILED = "server_failed"  # it found a bug of its own, and is about to exit
    MODEL_FAILED = "model_failed"  # its worker fails to start, again and again
    WORKER_DIED = "worker_died"  # after part of the answer was sent, or twice
    OUT_OF_MEMORY = "out_of_memory"  # also after the lone retry
    MEMORY_LIMIT = "memory_limit_exceeded"  # its worker was ended twice for holding more than it may
    MAX_RUN = "max_run_exceeded"
    STALLED = "stalled"  # its run made no progress, and its worker was ended for that
    ENGINE = "engine_error"  # the engine refused or failed this item; its own words come with it


@dataclass(frozen=True, slots=True)
class Rejection:
    """The end of a request without an answer."""

    reason: RejectReason
    detail: str  # one sentence for the client: what happened and what would do
    retry_after: float | None = None  # seconds; None: the same request is not to be sent again


class StopCause(StrEnum):
    """Why a worker is stopped."""

    EVICTED = "evicted"  # for another model's waiter
    OVER_BUDGET = "over_budget"  # the budget shrank or a worker outgrew what is reserved for it
    KEEP_ALIVE = "keep_alive"
    SLEEP_FAILED = "sleep_failed"  # asleep it still held too much
    HUNG = "hung"  # a run outlived its limit and ignored the cancel
    UNNEEDED = "unneeded"  # a process that waited for room: for nobody any more, or in the way itself
    SHUTDOWN = "shutdown"
    ADMIN = "admin"  # told so


@dataclass(frozen=True, slots=True)
class PrewarmWorker:
    """Start a process for a model and let it import what it needs, while there is no room for the model yet."""

    model: str
    worker: int


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Load a model, in the process that was spawned for it or else in a new one.

    What it may take is reserved already. With ``keep_copy`` a copy of its weights is to stay in host memory.
    """

    model: str
    worker: int
    keep_copy: bool = False


@dataclass(frozen=True, slots=True)
class StopWorker:
    """End a process: politely, or at once if ``kill``. ``why`` is for the log and the page."""

    model: str
    worker: int
    cause: StopCause
    why: str
    kill: bool = False


@dataclass(frozen=True, slots=True)
class SleepWorker:
    """Let go of the weights and keep the process, so that waking is faster than starting."""

    model: str
    worker: int
    cause: StopCause
    why: str


@dataclass(frozen=True, slots=True)
class WakeWorker:
    """Bring a sleeping model back. What it may take is reserved already."""

    model: str
    worker: int


@dataclass(frozen=True, slots=True)
class TrimWorker:
    """Give back what an idle worker's allocator keeps. Nothing is given to it until that has ended."""

    model: str
    worker: int
    why: str


@dataclass(frozen=True, slots=True)
class Dispatch:
    model: str
    worker: int
    requests: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop a running request within one step."""

    request: int
    worker: int


@dataclass(frozen=True, slots=True)
class Reject:
    """End a request without (the rest of) its answer."""

    request: int
    rejection: Rejection


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Post TimerFired at this time. Replaces an earlier timer; None takes it back."""

    at: float | None


@dataclass(frozen=True, slots=True)
class Halt:
    """Everything has ended; the shell may leave."""


Command = (
    PrewarmWorker
    | StartWorker
    | StopWorker
    | SleepWorker
    | WakeWorker
    | TrimWorker
    | Dispatch
    | Cancel
    | Reject
    | SetTimer
    | Halt
)
