"""Forms with a file, read in memory up to a limit."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from cohabit.api.errors import ApiError, BadRequest, readable
from cohabit.media import sound

MOST_UPLOAD = 60 << 20  # bytes; it goes to the worker in one frame of at most 64 MiB
_MOST_FIELD = 64 << 10  # bytes of a field that is not the file
_MOST_FIELDS = 32
_ENCODINGS = {b"content-encoding", b"content-transfer-encoding"}
_AS_IT_IS = {b"identity", b"binary", b"8bit", b"7bit"}


class _InMemory(MultiPartParser):
    """Writes nothing to the temporary folder, where it would outlive a crash, and takes parts as they are."""

    spool_max_size = MOST_UPLOAD + 1

    def on_headers_finished(self) -> None:
        """Raises ApiError for a part that would have to be unpacked."""
        for name, value in self._current_part.item_headers:
            if name in _ENCODINGS and value.strip().lower() not in _AS_IT_IS:
                raise ApiError(415, "encoded parts are not taken; send them as they are", code="compressed_body")
        super().on_headers_finished()


async def read_form(request: Request) -> tuple[dict[str, Any], bytes]:
    """The fields and the bytes of ``file``. A field named ``x[]`` is the list ``x``. Raises ApiError."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise BadRequest("the body must be a form: multipart/form-data with the fields file and model")
    parser = _InMemory(
        request.headers,
        _bounded(request),
        max_files=1,
        max_fields=_MOST_FIELDS,
        max_part_size=_MOST_FIELD,
    )
    try:
        form = await parser.parse()
    except (MultiPartException, ValueError):  # the latter of a charset that is none, or cannot decode
        raise BadRequest(
            f"the form cannot be read: it takes one file and {_MOST_FIELDS} fields of up to {_MOST_FIELD >> 10} KiB"
        ) from None
    fields: dict[str, Any] = {}
    lists: dict[str, list[str]] = {}
    data = None
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            data = await value.read() if name == "file" else data
        elif name.endswith("[]"):
            lists.setdefault(name.removesuffix("[]"), []).append(value)
        else:
            fields[name] = value
    await form.close()
    if data is None:
        raise BadRequest("file is missing: send the sound itself in it, with a file name", param="file")
    return fields | lists, data


async def examine_sound(data: bytes, param: str) -> None:
    """Whether it is sound that is taken. Raises BadRequest."""
    with readable(param, code="invalid_audio"):
        await asyncio.to_thread(sound.examine, data)


async def _bounded(request: Request) -> AsyncGenerator[bytes, None]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MOST_UPLOAD:
            raise ApiError(413, f"the upload is larger than {MOST_UPLOAD >> 20} MiB", code="request_too_large")
        yield chunk
