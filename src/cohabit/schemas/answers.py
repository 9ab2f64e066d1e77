"""Answers that the OpenAPI document describes: errors, models, whole chats and completions.

Engines make chats and completions, and they pass through. Source: OpenAI's API reference, "The chat completion
object", "The completion object" and "List models".
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from cohabit.schemas.chat import ToolCall


class ErrorBody(Struct, kw_only=True):
    """What went wrong."""

    message: Annotated[str, Meta(description="What happened and what would do. Never holds what was sent.")]
    type: str
    param: Annotated[str | None, Meta(description="The field it is about.")] = None
    code: Annotated[str | None, Meta(description="Stable, for programs.")] = None


class ErrorResponse(Struct, kw_only=True):
    """OpenAI's envelope."""

    error: ErrorBody


class ModelEntry(Struct, kw_only=True):
    """A model, or an alias of one."""

    id: str
    object: Literal["model"] = "model"
    created: Annotated[int, Meta(description="Unix seconds.")]
    owned_by: str = "cohabit"
    root: Annotated[str | UnsetType, Meta(description="Of an alias: the name of its model.")] = UNSET


class ModelList(Struct, kw_only=True):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]


FinishReason = Literal["stop", "length", "tool_calls"]


class Usage(Struct, kw_only=True):
    """Tokens. A prompt counts once, however many its choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class AnswerMessage(Struct, kw_only=True):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    tool_calls: list[ToolCall] | None = None


class ChatChoice(Struct, kw_only=True):
    """One of ``n``."""

    index: int
    message: AnswerMessage
    finish_reason: FinishReason
    logprobs: dict[str, Any] | None = None


class ChatAnswer(Struct, kw_only=True):
    """The answer to a chat."""

    id: str
    object: Literal["chat.completion"]
    created: Annotated[int, Meta(description="Unix seconds.")]
    model: str
    choices: list[ChatChoice]
    usage: Usage


class CompletionLogprobs(Struct, kw_only=True):
    """Lists beside each other, an entry for each token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: Annotated[list[int], Meta(description="Characters into the text of the choice.")]


class CompletionChoice(Struct, kw_only=True):
    """One of ``n`` for each prompt."""

    index: int
    text: str
    finish_reason: FinishReason
    logprobs: CompletionLogprobs | None = None


class CompletionAnswer(Struct, kw_only=True):
    """The text that goes on."""

    id: str
    object: Literal["text_completion"]
    created: Annotated[int, Meta(description="Unix seconds.")]
    model: str
    choices: list[CompletionChoice]
    usage: Usage
