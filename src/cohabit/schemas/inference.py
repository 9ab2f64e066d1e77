"""``/inference`` and ``/batch``: one route for every task, with its own short words for data and results."""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from cohabit.schemas.answers import ErrorBody, Usage
from cohabit.schemas.base import Fields, any_of
from cohabit.schemas.embedding import MAX_TEXTS, Text

MAX_ITEMS = 4096  # of one /batch
MAX_SPOKEN = 4096  # characters: the sound is held whole here, while /v1/audio/speech sends it as it is made


class ChatData(Fields, kw_only=True):
    """``prompt`` or ``messages``, plus any field of a chat."""

    prompt: Annotated[str, Meta(min_length=1)] | None = None
    messages: list[Any] | None = None  # checked as a chat's
    stream: bool = False

    def __post_init__(self) -> None:
        if self.stream:
            raise ValueError("stream must be false: there is one answer here")


class DescribeData(Fields, kw_only=True):
    """A picture, and what to say of it."""

    image: Annotated[str, Meta(min_length=1, description="Base64 or a data URL.")]
    prompt: Annotated[str, Meta(min_length=1)] | None = None


class EmbedData(Fields, kw_only=True):
    """``text`` or ``texts``."""

    text: Annotated[str, Meta(min_length=1)] | None = None
    texts: Annotated[list[Text], Meta(min_length=1, max_length=MAX_TEXTS)] | None = None


class SpeakData(Fields, kw_only=True):
    """What to say, and in whose voice."""

    text: Annotated[str, Meta(max_length=MAX_SPOKEN)]
    voice: str | None = None
    speed: float | None = None


class TranscribeData(Fields, kw_only=True):
    """Sound."""

    audio: Annotated[str, Meta(min_length=1, description="Base64 or a data URL.")]
    language: str | None = None
    prompt: str | None = None


DATA = (ChatData, DescribeData, EmbedData, SpeakData, TranscribeData)
Kind = Literal["chat", "describe_image", "embed", "speak", "transcribe"]


class InferenceRequest(Fields, kw_only=True):
    """What to do and with what. Without a model, the first configured one that has the task."""

    type: Kind
    data: Annotated[
        dict[str, Any], Meta(description="What it is of depends on the type.", extra_json_schema=any_of(*DATA))
    ]
    model: Annotated[str, Meta(min_length=1, max_length=256)] | None = None


class ChatResult(Struct, kw_only=True):
    """A chat's answer."""

    text: str | None
    finish_reason: str | None
    usage: Usage
    tool_calls: Annotated[list[dict[str, Any]] | None, Meta(description="Of what was called, if anything was.")] = (
        None
    )
    logprobs: Annotated[dict[str, Any] | None, Meta(description="If they were asked for.")] = None


class Label(Struct, kw_only=True):
    """What may be in a picture."""

    label: str
    score: float


class Reading(Struct, kw_only=True):
    """A text in a picture."""

    text: str
    score: float
    box: Annotated[list[list[int]], Meta(description="Its corners in pixels, clockwise from the upper left.")]


class Findings(Struct, kw_only=True):
    """What our own engine adds; of a language model that sees it is empty."""

    width: int | None = None
    height: int | None = None
    labels: list[Label] | None = None
    text: list[Reading] | None = None


class DescribeResult(Struct, kw_only=True):
    """A picture in words, and what they were made of where the model tells."""

    text: str | None
    findings: Findings


class EmbedResult(Struct, kw_only=True):
    """One vector for every text."""

    embeddings: list[list[float]]


class SpeakResult(Struct, kw_only=True):
    """A wav file in base64."""

    audio: str
    sample_rate: int


class TranscribeResult(Struct, kw_only=True):
    """What was said."""

    text: str


RESULTS = (ChatResult, DescribeResult, EmbedResult, SpeakResult, TranscribeResult)


class BatchItem(Struct, kw_only=True):
    """What became of one item: either of the two."""

    result: Annotated[dict[str, Any], Meta(extra_json_schema=any_of(*RESULTS))] | UnsetType = UNSET
    error: ErrorBody | UnsetType = UNSET


class BatchResult(Struct, kw_only=True):
    """In the order in which the items were sent."""

    results: list[BatchItem]
