"""``/v1/chat/completions`` and ``/v1/completions``. Source: OpenAI's API reference, "Create chat completion" and
"Create completion".
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, field

from cohabit.schemas.base import Body, Inner, Seed, Texts, check_texts, size, texts_schema


class TextPart(Inner, kw_only=True, tag_field="type", tag="text"):
    """A piece of text."""

    text: str


class ImageUrl(Inner, kw_only=True):
    """Where a picture is."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Inner, kw_only=True, tag_field="type", tag="image_url"):
    """A picture."""

    image_url: ImageUrl


class RefusalPart(Inner, kw_only=True, tag_field="type", tag="refusal"):
    """An earlier refusal of the assistant."""

    refusal: str


Part = TextPart | ImagePart | RefusalPart


class FunctionCall(Inner, kw_only=True):
    """Which function, with what."""

    name: str
    arguments: str


class ToolCall(Inner, kw_only=True):
    """A call that the assistant made."""

    ignored: ClassVar[frozenset[str]] = frozenset({"index"})  # who puts a stream together may leave it in

    id: str
    type: Literal["function"]
    function: FunctionCall


class Message(Inner, kw_only=True):
    """One turn."""

    # Answers of OpenAI's have these, and clients send them back as they came.
    ignored: ClassVar[frozenset[str]] = frozenset({"refusal", "annotations", "audio", "function_call", "id"})

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    reasoning_content: Annotated[
        str | None, Meta(description="What it thought, for templates that show it again.")
    ] = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None


class StreamOptions(Inner, kw_only=True):
    """How to stream."""

    ignored: ClassVar[frozenset[str]] = frozenset({"include_obfuscation"})

    include_usage: bool | None = None


# "$" alone would let a line end follow.
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-zA-Z0-9_-]+(?!\n)$")]


class Function(Inner, kw_only=True):
    """What a tool is called and takes."""

    name: Name
    description: str | None = None
    parameters: Annotated[dict[str, Any] | None, Meta(description="A JSON schema; without one it takes nothing.")] = (
        None
    )
    strict: bool | None = None


class Tool(Inner, kw_only=True):
    """Something the model may call."""

    type: Literal["function"]
    function: Function


class Named(Inner, kw_only=True):
    """Which function."""

    name: Name


class NamedTool(Inner, kw_only=True):
    """The one to be called."""

    type: Literal["function"]
    function: Named


class JsonSchema(Inner, kw_only=True):
    """A JSON schema with a name."""

    name: Name
    schema_: dict[str, Any] = field(name="schema")
    description: str | None = None
    strict: bool | None = None


class TextFormat(Inner, kw_only=True, tag_field="type", tag="text"):
    """Any text."""


class JsonFormat(Inner, kw_only=True, tag_field="type", tag="json_object"):
    """Any JSON object, or one as a schema says."""

    schema_: Annotated[dict[str, Any] | None, Meta(description="Not OpenAI's: a JSON schema.")] = field(
        name="schema", default=None
    )


class SchemaFormat(Inner, kw_only=True, tag_field="type", tag="json_schema"):
    """JSON as a schema says."""

    json_schema: JsonSchema


ResponseFormat = TextFormat | JsonFormat | SchemaFormat


MAX_BIASES = 4096
MAX_PROMPTS = 64  # of one completion
MAX_TOKENS = 2**31 - 1
Count = Annotated[int, Meta(ge=1, le=MAX_TOKENS)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
Stop = Annotated[str, Meta(max_length=1024)]


Biases = Annotated[dict[str, Bias], Meta(max_length=MAX_BIASES)]


class Sampling(Body, kw_only=True):
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
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=16)] | None = None
    seed: Seed | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    logit_bias: Biases | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None


class ChatRequest(Sampling, kw_only=True):
    """A chat."""

    refused: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "functions": "functions are not supported; send them as tools",
            "function_call": "function_call is not supported; send tool_choice",
            "audio": "chats are answered in text; leave out audio, and send the answer to /v1/audio/speech",
            "web_search_options": "nothing is searched for here; leave out web_search_options",
        }
    )
    without_effect: ClassVar[frozenset[str]] = frozenset({"store", "prediction"})  # the answer is the same without
    unsent: ClassVar[frozenset[str]] = frozenset({"user", "modalities"})

    messages: Annotated[list[Message], Meta(min_length=1, max_length=4096)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Tool], Meta(max_length=256)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    modalities: Annotated[Annotated[list[str], Meta(max_length=8)] | None, Meta(description='Only `["text"]`.')] = (
        None
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
        return turns + sum(len(msgspec.json.encode(tool)) for tool in self.tools or [])

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


class CompletionRequest(Sampling, kw_only=True):
    """Text to go on with."""

    prompt: Annotated[str | Texts, Meta(extra_json_schema=texts_schema(MAX_PROMPTS))]
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: Annotated[int, Meta(ge=1, le=16)] | None = None

    def __post_init__(self) -> None:
        check_texts("prompt", self.prompt, MAX_PROMPTS)

    def text_bytes(self) -> int:
        """Text of all prompts."""
        prompts = self.prompt if isinstance(self.prompt, list) else [self.prompt]
        return sum(size(prompt) for prompt in prompts if isinstance(prompt, str))
