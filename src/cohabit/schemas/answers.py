"""Answers that the OpenAPI document describes: errors, models, whole chats and completions.

Engines make chats and completions, and they pass through. Source: OpenAI's API reference, "The chat completion
object", "The completion object" and "List models".
"""

from typing import Any, Literal

from pydantic import BaseModel, Field

from cohabit.schemas.chat import ToolCall


class ErrorBody(BaseModel):
    """What went wrong."""

    message: str = Field(description="What happened and what would do. Never holds what was sent.")
    type: str
    param: str | None = Field(None, description="The field it is about.")
    code: str | None = Field(None, description="Stable, for programs.")


class ErrorResponse(BaseModel):
    """OpenAI's envelope."""

    error: ErrorBody


class ModelEntry(BaseModel):
    """A model, or an alias of one."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Unix seconds.")
    owned_by: str = "cohabit"
    root: str | None = Field(None, description="Of an alias: the name of its model.")


class ModelList(BaseModel):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]


FinishReason = Literal["stop", "length", "tool_calls"]


class Usage(BaseModel):
    """Tokens. A prompt counts once, however many its choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Answered(BaseModel):
    """What the model said."""

    role: Literal["assistant"]
    content: str | None
    tool_calls: list[ToolCall] | None = None


class ChatChoice(BaseModel):
    """One of ``n``."""

    index: int
    message: Answered
    finish_reason: FinishReason
    logprobs: dict[str, Any] | None = None


class ChatAnswer(BaseModel):
    """The answer to a chat."""

    id: str
    object: Literal["chat.completion"]
    created: int = Field(description="Unix seconds.")
    model: str
    choices: list[ChatChoice]
    usage: Usage


class CompletionLogprobs(BaseModel):
    """Lists beside each other, an entry for each token."""

    tokens: list[str]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]] | None
    text_offset: list[int] = Field(description="Characters into the text of the choice.")


class CompletionChoice(BaseModel):
    """One of ``n`` for each prompt."""

    index: int
    text: str
    finish_reason: FinishReason
    logprobs: CompletionLogprobs | None = None


class CompletionAnswer(BaseModel):
    """The text that goes on."""

    id: str
    object: Literal["text_completion"]
    created: int = Field(description="Unix seconds.")
    model: str
    choices: list[CompletionChoice]
    usage: Usage
