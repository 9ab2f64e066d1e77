"""``/v1/responses``. Source: OpenAI's API reference, "Create a model response"."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from cohabit.schemas.body import Body, Inner, Number, Seed
from cohabit.schemas.chat import Biases, Count, Name, Stop


class InputText(Inner):
    """A piece of what was said to the model."""

    type: Literal["input_text"]
    text: str


class InputImage(Inner):
    """A picture."""

    type: Literal["input_image"]
    image_url: str = Field(description="A data URL.")
    detail: Literal["auto", "low", "high", "original"] | None = None


class OutputText(Inner):
    """A piece of what the model said."""

    ignored: ClassVar[frozenset[str]] = frozenset({"annotations", "logprobs"})  # of an answer that is sent back

    type: Literal["output_text"]
    text: str


class Refusal(Inner):
    """An earlier refusal of the model."""

    type: Literal["refusal"]
    refusal: str


Part = Annotated[InputText | InputImage | OutputText | Refusal, Field(discriminator="type")]
Parts = Annotated[list[Part], Field(fail_fast=True)]


class MessageItem(Inner):
    """One turn."""

    ignored: ClassVar[frozenset[str]] = frozenset({"id", "status"})  # of an answer that is sent back

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | Parts


class CallItem(Inner):
    """A call that the model made."""

    ignored: ClassVar[frozenset[str]] = frozenset({"id", "status"})  # of an answer that is sent back

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class OutputItem(Inner):
    """What came of a call."""

    ignored: ClassVar[frozenset[str]] = frozenset({"id", "status"})  # of an answer that is sent back

    type: Literal["function_call_output"]
    call_id: str
    output: str | Parts


class ReasoningItem(Inner):
    """What a model thought, elsewhere: no model is told of it."""

    ignored: ClassVar[frozenset[str]] = frozenset({"id", "status", "summary", "content", "encrypted_content"})

    type: Literal["reasoning"]


def _typed(item: Any) -> Any:
    """A message need not say that it is one."""
    return {**item, "type": "message"} if isinstance(item, dict) and "type" not in item else item


Item = Annotated[
    Annotated[MessageItem | CallItem | OutputItem | ReasoningItem, Field(discriminator="type")],
    BeforeValidator(_typed),
]


class FunctionTool(Inner):
    """Something the model may call. Tools of other types are refused."""

    type: str = Field(description="`function`.")
    name: Name | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="A JSON schema.")
    strict: bool | None = None


class NamedFunction(Inner):
    """The one to be called."""

    type: Literal["function"]
    name: Name


class ResponseTextFormat(Inner):
    """Any text, or any JSON object."""

    type: Literal["text", "json_object"]


class ResponseSchemaFormat(Inner):
    """JSON as a schema says."""

    type: Literal["json_schema"]
    name: Name
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextConfig(Inner):
    """What the answer must look like."""

    ignored: ClassVar[frozenset[str]] = frozenset({"verbosity"})

    format: Annotated[ResponseTextFormat | ResponseSchemaFormat, Field(discriminator="type")] | None = None


_ALL = "nothing is kept here; send the whole input each time"
_OF_CHATS = ("messages", "max_tokens", "max_completion_tokens", "n", "response_format", "logprobs")


class ResponseRequest(Body):
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

    input: str | Annotated[list[Item], Field(min_length=1, max_length=4096, fail_fast=True)]
    instructions: str | None = None
    max_output_tokens: Count | None = None
    temperature: Number | None = Field(None, ge=0, le=2)
    top_p: Number | None = Field(None, ge=0, le=1)
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: Annotated[list[FunctionTool], Field(max_length=256, fail_fast=True)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: dict[str, Any] | None = Field(None, description="Has no effect.")
    include: Annotated[list[str], Field(max_length=64, fail_fast=True)] | None = None
    metadata: (
        dict[Annotated[str, StringConstraints(max_length=64)], Annotated[str, StringConstraints(max_length=512)]]
        | None
    ) = Field(None, max_length=16)
    # Not OpenAI's, and as in a chat:
    seed: Seed | None = None
    stop: Stop | Annotated[list[Stop], Field(max_length=16, fail_fast=True)] | None = None
    presence_penalty: Number | None = Field(None, ge=-2, le=2)
    frequency_penalty: Number | None = Field(None, ge=-2, le=2)
    logit_bias: Biases | None = None
    truncation: Literal["auto", "disabled"] | None = Field(None, description="Only `disabled`.")
    store: bool | None = Field(None, description="Nothing is stored, whatever is asked.")
    stream: bool | None = None

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


class ResponseUsage(BaseModel):
    """Tokens."""

    input_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens: int
    output_tokens_details: dict[str, int]
    total_tokens: int


class ResponseObject(BaseModel):
    """The answer; with ``stream`` the last event holds it."""

    model_config = ConfigDict(extra="allow")

    id: str
    object: Literal["response"]
    created_at: int
    status: Literal["in_progress", "completed", "incomplete", "failed"]
    model: str
    output: list[dict[str, Any]] = Field(description="Items of the types `message` and `function_call`.")
    usage: ResponseUsage | None
    error: dict[str, Any] | None
    incomplete_details: dict[str, Any] | None
