"""Whole answers of chats and completions, for the document of the API: engines make them, and they pass through.

Source: OpenAI's API reference, "The chat completion object" and "The completion object".
"""

from typing import Any, Literal

from pydantic import BaseModel, Field

from cohabit.schemas.chat import ToolCall

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
