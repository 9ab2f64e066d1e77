"""``/inference``: one route for every task, with its own short words for data and results."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cohabit.openai.embedding import Texts


class InferenceRequest(BaseModel):
    """What to do and with what. Without a model, the first configured one that has the task."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["chat", "embed"]
    data: dict[str, Any]
    model: str | None = Field(None, min_length=1, max_length=256)


class ChatData(BaseModel):
    """``prompt`` or ``messages``, plus any field of a chat."""

    model_config = ConfigDict(extra="allow", strict=True)

    prompt: str | None = Field(None, min_length=1)
    messages: list[Any] | None = None  # checked as a chat's
    stream: Literal[False] = False


class EmbedData(BaseModel):
    """``text`` or ``texts``."""

    model_config = ConfigDict(extra="forbid", strict=True)

    text: str | None = Field(None, min_length=1)
    texts: Texts | None = None


class ChatResult(BaseModel):
    """A chat's answer."""

    text: str | None
    finish_reason: str | None
    usage: dict[str, Any]


class EmbedResult(BaseModel):
    """One vector for every text."""

    embeddings: list[list[float]]
