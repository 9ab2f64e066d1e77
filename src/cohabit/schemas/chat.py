"""``/v1/chat/completions`` and ``/v1/completions``. Source: OpenAI's API reference, "Create chat completion" and
"Create completion".
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticKnownError

from cohabit.schemas.body import Body, Inner, Number, Seed, Tokens, size


class TextPart(Inner):
    """A piece of text."""

    type: Literal["text"]
    text: str


class ImageUrl(Inner):
    """Where a picture is."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Inner):
    """A picture."""

    type: Literal["image_url"]
    image_url: ImageUrl


class RefusalPart(Inner):
    """An earlier refusal of the assistant."""

    type: Literal["refusal"]
    refusal: str


Part = Annotated[TextPart | ImagePart | RefusalPart, Field(discriminator="type")]


class FunctionCall(Inner):
    """Which function, with what."""

    name: str
    arguments: str


class ToolCall(Inner):
    """A call that the assistant made."""

    ignored: ClassVar[frozenset[str]] = frozenset({"index"})  # who puts a stream together may leave it in

    id: str
    type: Literal["function"]
    function: FunctionCall


class Message(Inner):
    """One turn."""

    # Answers of OpenAI's have these, and clients send them back as they came.
    ignored: ClassVar[frozenset[str]] = frozenset({"refusal", "annotations", "audio", "function_call", "id"})

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | Annotated[list[Part], Field(fail_fast=True)] | None = None
    reasoning_content: str | None = Field(None, description="What it thought, for templates that show it again.")
    name: str | None = None
    tool_calls: Annotated[list[ToolCall], Field(fail_fast=True)] | None = None
    tool_call_id: str | None = None


class StreamOptions(Inner):
    """How to stream."""

    ignored: ClassVar[frozenset[str]] = frozenset({"include_obfuscation"})

    include_usage: bool | None = None


Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+$")]


class Function(Inner):
    """What a tool is called and takes."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="A JSON schema; without one it takes nothing.")
    strict: bool | None = None


class Tool(Inner):
    """Something the model may call."""

    type: Literal["function"]
    function: Function


class Named(Inner):
    """Which function."""

    name: Name


class NamedTool(Inner):
    """The one to be called."""

    type: Literal["function"]
    function: Named


class JsonSchema(Inner):
    """A JSON schema with a name."""

    name: Name
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextFormat(Inner):
    """Any text."""

    type: Literal["text"]


class JsonFormat(Inner):
    """Any JSON object, or one as a schema says."""

    type: Literal["json_object"]
    schema_: dict[str, Any] | None = Field(None, alias="schema", description="Not OpenAI's: a JSON schema.")


class SchemaFormat(Inner):
    """JSON as a schema says."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


ResponseFormat = Annotated[TextFormat | JsonFormat | SchemaFormat, Field(discriminator="type")]


MOST_BIASES = 4096
MOST_TOKENS = 2**31 - 1
Count = Annotated[int, Field(ge=1, le=MOST_TOKENS)]
Bias = Annotated[float, Field(ge=-100, le=100, allow_inf_nan=False)]
Stop = Annotated[str, Field(max_length=1024)]


def _few(biases: Any) -> Any:
    """Objects have no ``fail_fast``, so their size is looked at before their entries."""
    if isinstance(biases, dict) and len(biases) > MOST_BIASES:
        bound = {"field_type": "Dictionary", "max_length": MOST_BIASES, "actual_length": len(biases)}
        raise PydanticKnownError("too_long", bound)
    return biases


Biases = Annotated[dict[str, Bias], Field(max_length=MOST_BIASES), BeforeValidator(_few)]


class Sampling(Body):
    """Fields that chat and plain completions share."""

    ignored: ClassVar[frozenset[str]] = frozenset(
        {
            "metadata",
            "prompt_cache_key",
            "prompt_cache_retention",
            "reasoning_effort",
            "safety_identifier",
            "service_tier",
            "verbosity",
        }
    )

    max_tokens: Count | None = None
    temperature: Number | None = Field(None, ge=0, le=2)
    top_p: Number | None = Field(None, ge=0, le=1)
    n: int | None = Field(None, ge=1, le=16)
    stop: Stop | Annotated[list[Stop], Field(max_length=16, fail_fast=True)] | None = None
    seed: Seed | None = None
    presence_penalty: Number | None = Field(None, ge=-2, le=2)
    frequency_penalty: Number | None = Field(None, ge=-2, le=2)
    logit_bias: Biases | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class ChatRequest(Sampling):
    """A chat."""

    refused: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "functions": "functions are not supported; send them as tools",
            "function_call": "function_call is not supported; send tool_choice",
            "audio": "chats are answered in text; leave out audio, and send the answer to /v1/audio/speech",
            "web_search_options": "nothing is searched for here; leave out web_search_options",
        }
    )
    unheeded: ClassVar[frozenset[str]] = frozenset({"store", "prediction"})  # the answer is the same without

    messages: Annotated[list[Message], Field(fail_fast=True)] = Field(min_length=1, max_length=4096)
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(None, ge=0, le=20)
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Field(max_length=256, fail_fast=True)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    modalities: Annotated[list[str], Field(max_length=8)] | None = Field(
        None, exclude=True, description='Only `["text"]`.'
    )

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

    def schemas(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Of the answer, and of what functions take."""
        match self.response_format:
            case SchemaFormat(json_schema=form):
                yield "response_format.json_schema.schema", form.schema_
            case JsonFormat(schema_=dict(schema)):
                yield "response_format.schema", schema
        for place, tool in enumerate(self.tools or []):
            if tool.function.parameters is not None:
                yield f"tools.{place}.function.parameters", tool.function.parameters


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


class CompletionRequest(Sampling):
    """Text to go on with."""

    prompt: (
        str
        | Annotated[list[str], Field(min_length=1, max_length=64, fail_fast=True)]
        | Tokens
        | Annotated[list[Tokens], Field(min_length=1, max_length=64, fail_fast=True)]
    )
    logprobs: int | None = Field(None, ge=0, le=5)
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = Field(None, ge=1, le=16)

    def text_bytes(self) -> int:
        """Text of all prompts."""
        prompts = self.prompt if isinstance(self.prompt, list) else [self.prompt]
        return sum(size(prompt) for prompt in prompts if isinstance(prompt, str))
