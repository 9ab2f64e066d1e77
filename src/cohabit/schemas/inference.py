"""``/inference`` and ``/batch``: one route for every task, with its own short words for data and results."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from cohabit.schemas.answers import ErrorBody, Usage
from cohabit.schemas.body import Fields
from cohabit.schemas.embedding import Texts

MOST_ITEMS = 4096  # of one /batch
MOST_SPOKEN = 4096  # characters: the sound is held whole here, while /v1/audio/speech sends it as it is made


class ChatData(Fields):
    """``prompt`` or ``messages``, plus any field of a chat."""

    prompt: str | None = Field(None, min_length=1)
    messages: list[Any] | None = None  # checked as a chat's
    stream: Literal[False] = False


class DescribeData(Fields):
    """A picture, and what to say of it."""

    image: str = Field(min_length=1, description="Base64 or a data URL.")
    prompt: str | None = Field(None, min_length=1)


class EmbedData(Fields):
    """``text`` or ``texts``."""

    text: str | None = Field(None, min_length=1)
    texts: Texts | None = None


class SpeakData(Fields):
    """What to say, and in whose voice."""

    text: str = Field(max_length=MOST_SPOKEN)
    voice: str | None = None
    speed: float | None = None


class TranscribeData(Fields):
    """Sound."""

    audio: str = Field(min_length=1, description="Base64 or a data URL.")
    language: str | None = None
    prompt: str | None = None


Data = ChatData | DescribeData | EmbedData | SpeakData | TranscribeData
# Read once it is known of what type it is; the lambda is only there to tell the document what it may be.
_Unchecked = Annotated[dict[str, Any], BeforeValidator(lambda data: data, json_schema_input_type=Data)]
Kind = Literal["chat", "describe_image", "embed", "speak", "transcribe"]


class InferenceRequest(Fields):
    """What to do and with what. Without a model, the first configured one that has the task."""

    type: Kind
    data: _Unchecked
    model: str | None = Field(None, min_length=1, max_length=256)


class ChatResult(BaseModel):
    """A chat's answer."""

    text: str | None
    finish_reason: str | None
    usage: Usage
    tool_calls: list[dict[str, Any]] | None = Field(None, description="Of what was called, if anything was.")
    logprobs: dict[str, Any] | None = Field(None, description="If they were asked for.")


class Label(BaseModel):
    """What may be in a picture."""

    label: str
    score: float


class Reading(BaseModel):
    """A text in a picture."""

    text: str
    score: float
    box: list[list[int]] = Field(description="Its corners in pixels, clockwise from the upper left.")


class Findings(BaseModel):
    """What our own engine adds; of a language model that sees it is empty."""

    width: int | None = None
    height: int | None = None
    labels: list[Label] | None = None
    text: list[Reading] | None = None


class DescribeResult(BaseModel):
    """A picture in words, and what they were made of where the model tells."""

    text: str | None
    findings: Findings


class EmbedResult(BaseModel):
    """One vector for every text."""

    embeddings: list[list[float]]


class SpeakResult(BaseModel):
    """A wav file in base64."""

    audio: str
    sample_rate: int


class TranscribeResult(BaseModel):
    """What was said."""

    text: str


Result = ChatResult | DescribeResult | EmbedResult | SpeakResult | TranscribeResult


class BatchItem(BaseModel):
    """What became of one item: either of the two."""

    result: Result | None = None
    error: ErrorBody | None = None


class BatchResult(BaseModel):
    """In the order in which the items were sent."""

    results: list[BatchItem]
