"""``/v1/responses``. Source: OpenAI's API reference, "Create a model response"."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct, field

from cohabit.schemas.base import Body, Inner, Seed
from cohabit.schemas.chat import Biases, Count, Name, Stop


class InputText(Inner, kw_only=True, tag_field="type", tag="input_text"):
    """A piece of what was said to the model."""

    text: str


class InputImage(Inner, kw_only=True, tag_field="type", tag="input_image"):
    """A picture."""

    image_url: Annotated[str, Meta(description="A data URL.")]
    detail: Literal["auto", "low", "high", "original"] | None = None


class OutputText(Inner, kw_only=True, tag_field="type", tag="output_text"):
    """A piece of what the model said."""

    ignored: ClassVar[frozenset[str]] = frozenset({"annotations", "logprobs"})  # of an answer that is sent back

    text: str


class Refusal(Inner, kw_only=True, tag_field="type", tag="refusal"):
    """An earlier refusal of the model."""

    refusal: str


Part = InputText | InputImage | OutputText | Refusal
Parts = list[Part]


class MessageItem(Inner, kw_only=True, tag_field="type", tag="message"):
    """One turn."""

    ignored: ClassVar[frozenset[str]] = frozenset({"id", "status"})  # of an answer that is sent back

    role: Literal["user", "assistant", "system", "developer"]
    content: str | Parts


class CallItem(Inner, kw_only=True, tag_field="type", tag="function_call"):
    """A call that the model made."""

    ignored: ClassVar[frozenset[str]] = frozenset({"id", "status"})  # of an answer that is sent back

    call_id: str
    name: str
    arguments: str


class OutputItem(Inner, kw_only=True, tag_field="type", tag="function_call_output"):
    """What came of a call."""

    ignored: ClassVar[frozenset[str]] = frozenset({"id", "status"})  # of an answer that is sent back

    call_id: str
    output: str | Parts


class ReasoningItem(Inner, kw_only=True, tag_field="type", tag="reasoning"):
    """Reasoning of an earlier answer. No model is given it."""

    ignored: ClassVar[frozenset[str]] = frozenset({"id", "status", "summary", "content", "encrypted_content"})


Item = MessageItem | CallItem | OutputItem | ReasoningItem


class FunctionTool(Inner, kw_only=True):
    """Something the model may call. Tools of other types are refused."""

    type: Annotated[str, Meta(description="`function`.")]
    name: Name | None = None
    description: str | None = None
    parameters: Annotated[dict[str, Any] | None, Meta(description="A JSON schema.")] = None
    strict: bool | None = None


class NamedFunction(Inner, kw_only=True):
    """The one to be called."""

    type: Literal["function"]
    name: Name


class ResponseTextFormat(Inner, kw_only=True, tag_field="type", tag="text"):
    """Any text."""


class ResponseJsonFormat(Inner, kw_only=True, tag_field="type", tag="json_object"):
    """Any JSON object."""


class ResponseSchemaFormat(Inner, kw_only=True, tag_field="type", tag="json_schema"):
    """JSON as a schema says."""

    name: Name
    schema_: dict[str, Any] = field(name="schema")
    description: str | None = None
    strict: bool | None = None


class TextConfig(Inner, kw_only=True):
    """What the answer must look like."""

    ignored: ClassVar[frozenset[str]] = frozenset({"verbosity"})

    format: ResponseTextFormat | ResponseJsonFormat | ResponseSchemaFormat | None = None


_ALL = "nothing is kept here; send the whole input each time"
_OF_CHATS = ("messages", "max_tokens", "max_completion_tokens", "n", "response_format", "logprobs")


class ResponseRequest(Body, kw_only=True):
    """What to answer. Nothing is kept here, so all of the conversation is sent each time."""

    ignored: ClassVar[frozenset[str]] = frozenset(
        {
            "max_tool_calls",
            "prompt_cache_key",
            "prompt_cache_retention",
            "safety_identifier",
            "service_tier",
            "stream_options",
        }
    )
    refused: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "previous_response_id": f"previous_response_id is not supported: {_ALL}",
            "conversation": f"conversation is not supported: {_ALL}",
            "background": "background is not supported: nothing runs there; leave it out and wait, or stream",
            "prompt": "prompt is not supported: there are no stored prompts; send instructions and input",
            "context_management": "context_management is not supported: no input is shortened here; leave it out",
            "moderation": "moderation is not supported: nothing is moderated here; leave it out",
        }
    )
    misplaced: ClassVar[Mapping[str, str]] = MappingProxyType(
        {name: f"{name} belongs to chat completions, not to responses" for name in _OF_CHATS}
    )

    input: str | Annotated[list[Item], Meta(min_length=1, max_length=4096)]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    tools: Annotated[list[FunctionTool], Meta(max_length=256)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: Annotated[dict[str, Any] | None, Meta(description="Has no effect.")] = None
    include: Annotated[list[str], Meta(max_length=64)] | None = None
    metadata: (
        Annotated[
            dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)
        ]
        | None
    ) = None
    # Not OpenAI's, and as in a chat:
    seed: Seed | None = None
    stop: Stop | Annotated[list[Stop], Meta(max_length=16)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    logit_bias: Biases | None = None
    truncation: Annotated[Literal["auto", "disabled"] | None, Meta(description="Only `disabled`.")] = None
    store: Annotated[bool | None, Meta(description="Nothing is stored, whatever is asked.")] = None
    stream: bool | None = None

    @classmethod
    def completed(cls, data: Any) -> Any:
        """A message need not say that it is one."""
        if not isinstance(data, dict) or not isinstance(data.get("input"), list):
            return data
        items = [
            {**item, "type": "message"} if isinstance(item, dict) and "type" not in item else item
            for item in data["input"]
        ]
        return {**data, "input": items}

    def pictures(self) -> Iterator[tuple[str, str]]:
        """Where each picture stands, such as ``input.0.content.1.image_url``, and its URL."""
        for turn, item in enumerate(self.input if isinstance(self.input, list) else []):
            match item:
                case MessageItem():
                    field, parts = "content", item.content
                case OutputItem():
                    field, parts = "output", item.output
                case _:
                    continue
            for place, part in enumerate(parts if isinstance(parts, list) else []):
                if isinstance(part, InputImage):
                    yield f"input.{turn}.{field}.{place}.image_url", part.image_url

    def schemas(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Of the answer, and of what functions take."""
        if self.text is not None and isinstance(self.text.format, ResponseSchemaFormat):
            yield "text.format.schema", self.text.format.schema_
        for place, tool in enumerate(self.tools or []):
            if tool.parameters is not None:
                yield f"tools.{place}.parameters", tool.parameters


class ResponseUsage(Struct, kw_only=True):
    """Tokens."""

    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int


class ResponseObject(Struct, kw_only=True):
    """The answer; with ``stream`` the last event holds it."""

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: str
    output: Annotated[list[dict[str, Any]], Meta(description="Items of the types `message` and `function_call`.")]
    usage: ResponseUsage | None
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
