"""``/v1/files``, and the pages of its list, which batches have too. Source: OpenAI's API reference, "Files"."""

from collections.abc import Sequence
from typing import Annotated, Generic, Literal, Self, TypeVar

from msgspec import Meta, Struct

from cohabit.schemas.base import Fields, Inner


class Entry(Struct, kw_only=True):
    """What is in one."""

    id: str


T = TypeVar("T", bound=Entry)


class Page(Struct, Generic[T], kw_only=True):
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


Purpose = Literal["batch", "batch_output"]


class FileObject(Entry, kw_only=True):
    """A file that was sent, or that a batch has made."""

    object: Literal["file"] = "file"
    bytes: int
    created_at: Annotated[int, Meta(description="Unix seconds.")]
    expires_at: Annotated[int | None, Meta(description="Unix seconds; then it is erased.")] = None
    filename: str
    purpose: Purpose
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileList(Page[FileObject], kw_only=True):
    """One page of them."""


class Deleted(Struct, kw_only=True):
    """It is gone, with all that was in it."""

    id: str
    object: Literal["file", "batch"]
    deleted: bool = True


class ExpiresAfter(Inner, kw_only=True):
    """When a file is to be erased, if earlier than the server would."""

    anchor: Literal["created_at"] = "created_at"
    seconds: Annotated[int, Meta(ge=3600, le=2592000)]


def kept_for(retention: float, wanted: ExpiresAfter | None) -> float:
    """Seconds: as long as the server keeps things, or as was wanted if that is less."""
    return retention if wanted is None else min(retention, wanted.seconds)


class FileUpload(Fields, kw_only=True):
    """The fields of the form beside the file itself."""

    purpose: Literal["batch"]
    expires_after: ExpiresAfter | None = None
