"""``/v1/batches``. Source: OpenAI's API reference, "Batch"."""

from typing import Annotated, Any, Literal, get_args

from msgspec import Meta, Struct

from cohabit.config.units import parse_duration
from cohabit.schemas.base import Fields
from cohabit.schemas.files import Entry, ExpiresAfter, Page

Endpoint = Literal[
    "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses", "/v1/rerank", "/inference"
]
ENDPOINTS: tuple[str, ...] = get_args(Endpoint)
"""What a line may ask for: every task there is, sound through ``/inference``."""

Status = Literal[
    "validating", "failed", "in_progress", "finalizing", "completed", "expired", "cancelling", "cancelled"
]
ENDED: frozenset[str] = frozenset({"failed", "completed", "expired", "cancelled"})

MINUTE = 60  # seconds
LONGEST = 30 * 86400


class BatchRequest(Fields, kw_only=True):
    """A file of lines to be answered."""

    input_file_id: Annotated[str, Meta(min_length=1, max_length=64)]
    endpoint: Annotated[Endpoint, Meta(description="What most lines ask for; each line's own `url` is what counts.")]
    completion_window: Annotated[
        str,
        Meta(description="How long it may take, up to 30 days; what is not answered by then is in the error file."),
    ] = "24h"
    metadata: (
        Annotated[
            dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
        ]
        | None
    ) = None
    output_expires_after: ExpiresAfter | None = None

    def __post_init__(self) -> None:
        try:
            seconds = parse_duration(self.completion_window)
        except ValueError:
            raise ValueError("completion_window must be a time such as 90m, 24h or 7d") from None
        if not MINUTE <= seconds <= LONGEST:
            raise ValueError("completion_window must be a time between 1m and 30d")

    def window(self) -> float:
        """Seconds that it may take."""
        return parse_duration(self.completion_window)


class LineError(Struct, kw_only=True):
    """What is wrong with a line of the input, or with all of it."""

    code: str
    message: str
    line: Annotated[int | None, Meta(description="Counted from 1.")] = None
    param: str | None = None


class LineErrors(Struct, kw_only=True):
    """The first of them; the error file has all."""

    object: Literal["list"] = "list"
    data: list[LineError]


class RequestCounts(Struct, kw_only=True):
    """Lines."""

    total: int
    completed: int
    failed: int


class Batch(Entry, kw_only=True):
    """A batch and how far it is. Times are Unix seconds."""

    object: Literal["batch"] = "batch"
    endpoint: str
    errors: LineErrors | None = None
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: Annotated[
        str | None, Meta(description="The lines that were answered, in the order of the input.")
    ] = None
    error_file_id: Annotated[str | None, Meta(description="The lines that were not, and why.")] = None
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: RequestCounts
    metadata: dict[str, Any] | None = None


class BatchList(Page[Batch], kw_only=True):
    """One page of them, the newest first."""
