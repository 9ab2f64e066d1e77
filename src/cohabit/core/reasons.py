"""Why a request ends without an answer. The core says why; what that is in HTTP is the api's business."""

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
