"""What all request bodies have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MOST_BODY = 32 << 20  # bytes
ModelName = Annotated[str, Field(min_length=1, max_length=256, description="A model's name or alias.")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
# Lists fail at their first wrong entry: a body may hold millions, and an error for each takes seconds to build.
Token = Annotated[int, Field(ge=0, lt=2**31)]
Tokens = Annotated[list[Token], Field(min_length=1, max_length=1 << 20, fail_fast=True)]


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
