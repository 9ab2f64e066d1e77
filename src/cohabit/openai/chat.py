"""``/v1/chat/completions``. Source: OpenAI's API reference, "Create chat completion"."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticKnownError

from cohabit.openai.body import Body, Number, Seed, size


class _Loose(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class TextPart(_Loose):
    """A piece of text."""

    type: Literal["text"]
    text: str


class ImageUrl(_Loose):
    """Where a picture is."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(_Loose):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageUrl


class RefusalPart(_Loose):
    """An earlier refusal of the assistant."""

    type: Literal["refusal"]
    refusal: str


Part = Annotated[TextPart | ImagePart | RefusalPart, Field(discriminator="type")]


class FunctionCall(_Loose):
    """Which function, with what."""

    name: str
    arguments: str


class ToolCall(_Loose):
    """A call that the assistant made."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class Message(_Loose):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[Part], Field(fail_fast=True)] | None = None
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True)] | None = None
    tool_call_id: str | None = None


class StreamOptions(_Loose):
    """How to stream."""

    include_usage: bool | None = None


Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")]


class Function(_Loose):
    """What a tool is called and takes."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="A JSON schema; without one it takes nothing.")
    strict: bool | None = None


class Tool(_Loose):
    """Something the model may call."""

    type: Literal["function"]
    function: Function


class Named(_Loose):
    """Which function."""

    name: Name


class NamedTool(_Loose):
    """The one to be called."""

    type: Literal["function"]
    function: Named


class JsonSchema(_Loose):
    """A JSON schema with a name."""

    name: Name
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextFormat(_Loose):
    """Any text."""

    type: Literal["text"]


class JsonFormat(_Loose):
    """Any JSON object."""

    type: Literal["json_object"]


class SchemaFormat(_Loose):
    """JSON as a schema says."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | JsonFormat | SchemaFormat, Field(discriminator="type")]


MOST_BIASES = 4096


def _few(biases: Any) -> Any:
    """Objects have no ``fail_fast``, so their size is looked at before their entries."""
    if isinstance(biases, dict) and len(biases) > MOST_BIASES:
        bound = {"field_type": "Dictionary", "max_length": MOST_BIASES, "actual_length": len(biases)}
        raise PydanticKnownError("too_long", bound)
    return biases


Biases = Annotated[dict[str, Number], Field(max_length=MOST_BIASES), BeforeValidator(_few)]


class Sampling(Body):
    """Fields that chat and plain completions share."""

    max_tokens: int | None = Field(None, ge=1)
    temperature: Number | None = Field(None, ge=0, le=2)
    top_p: Number | None = Field(None, ge=0, le=1)
    n: int | None = Field(None, ge=1, le=16)
    stop: str | Annotated[list[str], Field(max_length=16, fail_fast=True)] | None = None
    seed: Seed | None = None
    presence_penalty: Number | None = Field(None, ge=-2, le=2)
    frequency_penalty: Number | None = Field(None, ge=-2, le=2)
    logit_bias: Biases | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class ChatRequest(Sampling):
    """A chat."""

    messages: Annotated[list[Message], Field(fail_fast=True)] = Field(min_length=1, max_length=4096)
    max_completion_tokens: int | None = Field(None, ge=1)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=256, fail_fast=True)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None

    def pictures(self) -> Iterator[tuple[str, str]]:
        """Where each picture stands, such as ``messages.0.content.1.image_url.url``, and its URL."""
        for turn, message in enumerate(self.messages):
            parts = message.content if isinstance(message.content, list) else []
            for place, part in enumerate(parts):
                if isinstance(part, ImagePart):
                    yield f"messages.{turn}.content.{place}.image_url.url", part.image_url.url

    def text_bytes(self) -> int:
        """Text of all turns, with what is called and what may be called: the template puts it all in the prompt."""
        turns = sum(_message_bytes(message) for message in self.messages)
        return turns + sum(size(tool.model_dump_json()) for tool in self.tools or [])


def _message_bytes(message: Message) -> int:
    calls = sum(size(call.function.name) + size(call.function.arguments) for call in message.tool_calls or [])
    if isinstance(message.content, str):
        return size(message.content) + calls
    return calls + sum(_part_bytes(part) for part in message.content or [])


def _part_bytes(part: TextPart | ImagePart | RefusalPart) -> int:
    match part:
        case TextPart():
            return size(part.text)
        case RefusalPart():
            return size(part.refusal)
        case ImagePart():
            return 0
