"""``/v1/models``. Source: OpenAI's API reference, "List models"."""

from typing import Literal

from pydantic import BaseModel, Field


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
