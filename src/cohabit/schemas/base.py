"""What all request bodies have in common. A body is a Struct; the annotations of its fields have their bounds."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar

from msgspec import Meta, Struct

MAX_BODY = 32 << 20  # bytes
ModelName = Annotated[str, Meta(min_length=1, max_length=256, description="A model's name or alias.")]
Seed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Token = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Tokens = Annotated[list[Token], Meta(min_length=1, max_length=1 << 20)]
Texts = Annotated[list[str | Token | Tokens], Meta(min_length=1, max_length=1 << 20)]
"""Texts, or the tokens of one text, or the tokens of several: see ``check_texts``."""


class Inner(Struct, kw_only=True, omit_defaults=True):
    """An object within a body. Fields that are not known are dropped."""

    ignored: ClassVar[frozenset[str]] = frozenset()
    """Known fields that have no effect, and that are dropped without a warning."""


class Fields(Inner, kw_only=True):
    """The fields that a route knows, in a JSON body or in a form; see api/fields.py for what becomes of others."""

    refused: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Known fields that are refused unless they ask for nothing, with the message for the client."""
    misplaced: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Fields of another route, which are refused likewise."""
    without_effect: ClassVar[frozenset[str]] = frozenset()
    """Known fields that have no effect and that one might count on: the client gets a warning."""
    unsent: ClassVar[frozenset[str]] = frozenset()
    """Known fields that no engine is given."""

    @classmethod
    def completed(cls, data: Any) -> Any:
        """Plain data with what may be left out of it, so that it can be read as this Struct."""
        return data

    def text_bytes(self) -> int:
        """Bytes of text in it, bounded at the door: tokens are only counted in the worker."""
        return 0

    def schemas(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """JSON schemas in it, each with the place where it stands."""
        return iter(())


class Body(Fields, kw_only=True):
    """A request that names a model."""

    unsent: ClassVar[frozenset[str]] = frozenset({"user"})

    model: ModelName
    user: Annotated[str | None, Meta(description="Has no effect.")] = None


def size(text: str) -> int:
    """Bytes of a text in UTF-8."""
    return len(text.encode())


def check_texts(name: str, texts: str | list[Any], most: int) -> None:
    """Raises ValueError for a list that has entries of several types, or more texts than ``most``."""
    if isinstance(texts, str):
        return
    kinds = {type(text) for text in texts}
    if len(kinds) > 1:
        raise ValueError(f"{name} must have entries of one type")
    if kinds != {int} and len(texts) > most:
        raise ValueError(f"{name} must have at most {most} entries")


def texts_schema(most: int, min_length: int = 0) -> dict[str, Any]:
    """JSON schema of what ``check_texts`` accepts, which no type of msgspec says."""
    text = {"type": "string", "minLength": min_length}
    tokens = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}, "minItems": 1}
    lists = [{"type": "array", "items": items, "minItems": 1, "maxItems": most} for items in (text, tokens)]
    return {"allOf": [{"anyOf": [text, tokens, *lists]}]}  # beside the "anyOf" of the type, which says less


def any_of(*kinds: type[Struct]) -> dict[str, Any]:
    """JSON schema of a value that is read as one of these later: msgspec has no unions of Structs without a tag."""
    return {"anyOf": [{"$ref": f"#/components/schemas/{kind.__name__}"} for kind in kinds]}
