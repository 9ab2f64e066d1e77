"""Lists in pages. Source: OpenAI's API reference, "Files" and "Batch", where both have this shape."""

from collections.abc import Sequence
from typing import Generic, Literal, Self, TypeVar

from pydantic import BaseModel


class Entry(BaseModel):
    """What is in one."""

    id: str


T = TypeVar("T", bound=Entry)


class Page(BaseModel, Generic[T]):
    """Some of them."""

    object: Literal["list"] = "list"
    data: list[T]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, found: Sequence[T], limit: int) -> Self:
        """Up to ``limit`` of what was found when one more was looked for."""
        data = list(found[:limit])
        ends = (data[0].id, data[-1].id) if data else (None, None)
        return cls(data=data, first_id=ends[0], last_id=ends[1], has_more=len(found) > limit)
