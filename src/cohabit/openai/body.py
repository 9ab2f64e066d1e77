"""What all request bodies have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

ModelName = Annotated[str, Field(min_length=1, max_length=256, description="A model's name or alias.")]


class Body(BaseModel):
    """A request body. Fields that are not known here pass through to the engine, which may know them."""

    model_config = ConfigDict(extra="allow", strict=True)

    model: ModelName
    user: str | None = None

    def text_bytes(self) -> int:
        """Bytes of text in it, bounded at the door: tokens are only counted in the worker."""
        return 0


def size(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text.encode())
