"""``/v1/files``: what batches read, and what they have made."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from io import BytesIO
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request
from starlette.responses import Response

from cohabit.api.errors import BadRequest
from cohabit.api.fields import validate_form
from cohabit.api.http.connections import gone
from cohabit.api.openapi import only
from cohabit.api.routing import Router, json_response, query_of
from cohabit.api.storage import checked_id, open_store, store_errors, store_of, who_asks
from cohabit.api.streams import Stream, StreamTimeouts, Truncated
from cohabit.api.submission import warn
from cohabit.api.uploads import FormParser, fields_of, parse_form
from cohabit.batches.errors import Missing, StorageError
from cohabit.batches.lines import CONTROL
from cohabit.schemas.files import Deleted, FileList, FileObject, FileUpload, Purpose

if TYPE_CHECKING:
    from cohabit.batches.store import Upload

router = Router("files", only(404, 503), prefix="/v1/files")

_MAX_NAME = 255  # characters
_FORM = 1 << 20  # bytes of a form beside its file

After = Annotated[Annotated[str, Meta(max_length=64)] | None, Meta(description="The last id of the page before.")]


class ListFiles(msgspec.Struct):
    purpose: Purpose | None = None
    after: After = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100
    order: Literal["asc", "desc"] = "desc"


class _Sent(UploadFile):
    """The file of a form, on its way into the store instead of a folder."""

    def __init__(self, begin: "Callable[[str], Upload]", filename: str) -> None:
        super().__init__(BytesIO(), filename=CONTROL.sub("", filename)[:_MAX_NAME] or "file")
        self._upload = begin(self.filename or "")

    async def write(self, data: bytes) -> None:
        """As the form's parser has it. Raises ApiError, ClientDisconnect."""
        with store_errors():
            await self._upload.write(data)

    async def seek(self, offset: int) -> None:
        """Which the parser does at its end; it is not read here."""

    async def seal(self, fields: FileUpload) -> FileObject:
        """It is whole. Raises ApiError, ClientDisconnect."""
        if not self._upload.size:
            raise BadRequest("the file is empty: send a line of JSON for each request", param="file")
        with store_errors():
            return await self._upload.seal(fields)

    def discard(self) -> None:
        """It is not wanted."""
        self._upload.discard()


class _ToStore(FormParser):
    """Holds no more of a file than the piece that is being written."""

    def __init__(self, *how: Any, begin: "Callable[[str], Upload]", sent: list[_Sent], **more: Any) -> None:
        super().__init__(*how, **more)
        self._begin = begin
        self._sent = sent

    def on_headers_finished(self) -> None:
        """A part begins."""
        super().on_headers_finished()
        file = self._current_part.file
        if file is not None:
            file.file.close()
            self._current_part.file = _Sent(self._begin, file.filename or "")
            self._sent.append(self._current_part.file)


@router.post("", form=FileUpload, waits=False, answer=FileObject, responses=only(413, 507))
async def send_file(request: Request) -> Response:
    """Send a file of requests, a line of JSON for each."""
    store = await store_of(request)
    sent: list[_Sent] = []
    begin = partial(store.upload, who_asks(request), gone=partial(gone, request.scope))
    parser = partial(_ToStore, begin=begin, sent=sent)
    try:
        form = await parse_form(request, parser, "purpose", store.most_upload + _FORM)
        validated = validate_form(FileUpload, fields_of(form))
        response = json_response(await _file_of(form).seal(validated.body))
    except BaseException:
        for each in sent:
            each.discard()
        raise
    warn(response, validated.drop_others())
    return response


def _file_of(form: FormData) -> _Sent:
    file = form.get("file")
    if not isinstance(file, _Sent):
        raise BadRequest("file is missing: send the file's lines in this field, with a file name", param="file")
    return file


@router.get("", answer=FileList, query=ListFiles)
async def list_files(request: Request) -> Response:
    """What was sent and what batches have made."""
    query = query_of(request, ListFiles)
    async with open_store(request) as (store, principal):
        page = await store.files(
            principal, purpose=query.purpose, after=query.after, limit=query.limit, newest=query.order == "desc"
        )
    return json_response(page)


@router.get("/{file_id}", answer=FileObject)
async def get_file(request: Request) -> Response:
    """What is known of a file."""
    async with open_store(request) as (store, principal):
        return json_response(await store.file(principal, _file_id(request)))


@router.delete("/{file_id}", answer=Deleted, responses=only(409))
async def delete_file(request: Request) -> Response:
    """Erase a file and all that is in it."""
    async with open_store(request) as (store, principal):
        file_id = _file_id(request)
        await store.erase_file(principal, file_id)
    return json_response(Deleted(id=file_id, object="file"))


@router.get(
    "/{file_id}/content",
    responses={200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def read_file(request: Request) -> Response:
    """All that is in it."""
    async with open_store(request) as (store, principal):
        file_id = _file_id(request)
        file = await store.file(principal, file_id)
    timeouts: StreamTimeouts = request.app.state.timeouts
    return Content(store.content(principal, file_id), file.bytes, timeouts)


def _file_id(request: Request) -> str:
    return checked_id(request.path_params["file_id"], "file")


class Content(Stream):
    """A file in pieces, as they are read."""

    media_type = "application/octet-stream"

    def __init__(self, pieces: AsyncIterator[bytes], size: int, timeouts: StreamTimeouts) -> None:
        """``size`` in bytes: whoever gets less knows that it is not all."""
        super().__init__(self, {}, timeouts)
        self.headers["content-length"] = str(size)
        self._pieces = pieces

    def cancel(self) -> None:
        """The client is gone: the next piece is the last."""
        self._gone = True

    async def _send_all(self) -> None:
        try:
            async for piece in self._pieces:
                if self._gone:
                    return
                await self._push(piece)
        except (Missing, StorageError):
            raise Truncated from None
        await self._push(b"", more=False)
