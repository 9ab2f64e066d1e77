"""``/v1/batches``. Source: OpenAI's API reference, "Batch"."""

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from pydantic_core import PydanticCustomError

from cohabit.config.units import parse_duration
from cohabit.schemas.body import Fields
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


def _window(text: str) -> str:
    if not MINUTE <= parse_duration(text) <= LONGEST:
        raise PydanticCustomError("window", "must be a time between 1m and 30d")
    return text


class BatchRequest(Fields):
    """A file of lines to be answered."""

    input_file_id: str = Field(min_length=1, max_length=64)
    endpoint: Endpoint = Field(description="What most lines ask for; each line's own `url` is what counts.")
    completion_window: Annotated[str, AfterValidator(_window)] = Field(
        "24h", description="How long it may take, up to 30 days; what is not answered by then is in the error file."
    )
    metadata: (
        dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]]
        | None
    ) = Field(None, max_length=16)
    output_expires_after: ExpiresAfter | None = None

    def window(self) -> float:
        """Seconds that it may take."""
        return parse_duration(self.completion_window)


class LineError(BaseModel):
    """What is wrong with a line of the input, or with all of it."""

    code: str
    message: str
    line: int | None = Field(None, description="Counted from 1.")
    param: str | None = None


class LineErrors(BaseModel):
    """The first of them; the error file has all."""

    object: Literal["list"] = "list"
    data: list[LineError]


class Counts(BaseModel):
    """Lines."""

    total: int
    completed: int
    failed: int


class Batch(Entry):
    """A batch and how far it is. Times are Unix seconds."""

    object: Literal["batch"] = "batch"
    endpoint: str
    errors: LineErrors | None = None
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: str | None = Field(None, description="The lines that were answered, in the order of the input.")
    error_file_id: str | None = Field(None, description="The lines that were not, and why.")
    created_at: int
    in_progress_at: int | None = None
    expires_at: int
    finalizing_at: int | None = None
    completed_at: int | None = None
    failed_at: int | None = None
    expired_at: int | None = None
    cancelling_at: int | None = None
    cancelled_at: int | None = None
    request_counts: Counts
    metadata: dict[str, Any] | None = None


class BatchList(Page[Batch]):
    """One page of them, the newest first."""
