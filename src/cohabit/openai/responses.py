"""``/v1/responses``. Source: OpenAI's API reference, "Create a model response"."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from cohabit.openai.body import Body, Number
from cohabit.openai.chat import Name


class _Loose(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class InputText(_Loose):
    """A piece of what was said to the model."""

    type: Literal["input_text"]
    text: str


class InputImage(_Loose):
    """A picture."""

    type: Literal["input_image"]
    image_url: str = Field(description="A data URL.")
    detail: Literal["auto", "low", "high", "original"] | None = None


class OutputText(_Loose):
    """A piece of what the model said."""

    type: Literal["output_text"]
    text: str


class Refusal(_Loose):
    """An earlier refusal of the model."""

    type: Literal["refusal"]
    refusal: str


Part = Annotated[InputText | InputImage | OutputText | Refusal, Field(discriminator="type")]
Parts = Annotated[list[Part], Field(fail_fast=True)]


class MessageItem(_Loose):
    """One turn."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | Parts


class CallItem(_Loose):
    """A call that the model made."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class OutputItem(_Loose):
    """What came of a call."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | Parts


class ReasoningItem(_Loose):
    """What a model thought, elsewhere: no model is told of it."""

    type: Literal["reasoning"]


def _typed(item: Any) -> Any:
    """A message need not say that it is one."""
    return {**item, "type": "message"} if isinstance(item, dict) and "type" not in item else item


Item = Annotated[
    Annotated[MessageItem | CallItem | OutputItem | ReasoningItem, Field(discriminator="type")],
    BeforeValidator(_typed),
]


class FunctionTool(_Loose):
    """Something the model may call. Tools of other types are refused."""

    type: str = Field(description="`function`.")
    name: Name | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="A JSON schema.")
    strict: bool | None = None


class NamedFunction(_Loose):
    """The one to be called."""

    type: Literal["function"]
    name: Name


class TextFormat(_Loose):
    """Any text, or any JSON object."""

    type: Literal["text", "json_object"]


class SchemaFormat(_Loose):
    """JSON as a schema says."""

    type: Literal["json_schema"]
    name: Name
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


class TextConfig(_Loose):
    """What the answer must look like."""

    format: Annotated[TextFormat | SchemaFormat, Field(discriminator="type")] | None = None


class ResponseRequest(Body):
    """What to answer. Nothing is kept here, so all of the conversation is sent each time."""

    input: str | Annotated[list[Item], Field(min_length=1, max_length=4096, fail_fast=True)]
    instructions: str | None = None
    max_output_tokens: int | None = Field(None, ge=1)
    temperature: Number | None = Field(None, ge=0, le=2)
    top_p: Number | None = Field(None, ge=0, le=1)
    top_logprobs: int | None = Field(None, ge=0, le=20)
    tools: Annotated[list[FunctionTool], Field(max_length=256, fail_fast=True)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedFunction | None = None
    parallel_tool_calls: bool | None = None
    text: TextConfig | None = None
    reasoning: dict[str, Any] | None = Field(None, description="Has no effect.")
    include: Annotated[list[str], Field(max_length=64, fail_fast=True)] | None = None
    metadata: dict[str, str] | None = None
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
