"""``/v1/files``. Source: OpenAI's API reference, "Files"."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Purpose = Literal["batch", "batch_output"]


class FileObject(BaseModel):
    """A file that was sent, or that a batch has made."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int = Field(description="Unix seconds.")
    expires_at: int | None = Field(None, description="Unix seconds; then it is erased.")
    filename: str
    purpose: Purpose
    status: Literal["processed"] = "processed"
    status_details: None = None


class FileList(BaseModel):
    """One page of them."""

    object: Literal["list"] = "list"
    data: list[FileObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Deleted(BaseModel):
    """It is gone, with all that was in it."""

    id: str
    object: Literal["file", "batch"]
    deleted: Literal[True] = True


class ExpiresAfter(BaseModel):
    """When a file is to be erased, if earlier than the server would."""

    model_config = ConfigDict(extra="forbid")

    anchor: Literal["created_at"] = "created_at"
    seconds: int = Field(ge=3600, le=2592000)


class FileUpload(BaseModel):
    """The fields of the form beside the file itself."""

    model_config = ConfigDict(extra="forbid")

    purpose: Literal["batch"]
    expires_after: ExpiresAfter | None = None
