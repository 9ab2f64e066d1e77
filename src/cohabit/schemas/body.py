"""What all request bodies have in common."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

MOST_BODY = 32 << 20  # bytes
ModelName = Annotated[str, Field(min_length=1, max_length=256, description="A model's name or alias.")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
# Lists fail at their first wrong entry: a body may hold millions, and an error for each takes seconds to build.
Token = Annotated[int, Field(ge=0, lt=2**31)]
Tokens = Annotated[list[Token], Field(min_length=1, max_length=1 << 20, fail_fast=True)]


class Inner(BaseModel):
    """An object within a body. Fields that are not known are dropped."""

    model_config = ConfigDict(extra="ignore", strict=True)
    ignored: ClassVar[frozenset[str]] = frozenset()
    """Known fields that have no effect, and that are dropped without a warning."""


class Fields(Inner):
    """The fields that a route knows, in a JSON body or in a form; see api/fields.py for what becomes of others."""

    refused: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Known fields that cannot be honoured unless they ask for nothing, with what the client is told."""
    misplaced: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Fields of another route, which are refused likewise."""
    unheeded: ClassVar[frozenset[str]] = frozenset()
    """Known fields that have no effect and that one might count on: the client is told."""

    def text_bytes(self) -> int:
        """Bytes of text in it, bounded at the door: tokens are only counted in the worker."""
        return 0

    def schemas(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """JSON schemas in it, each with the place where it stands."""
        return iter(())


class Body(Fields):
    """A request that names a model."""

    model: ModelName
    user: str | None = Field(None, exclude=True, description="Has no effect.")


def size(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text.encode())
