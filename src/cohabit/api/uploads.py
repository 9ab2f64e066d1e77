"""Forms with a file: read up to a limit, here in memory."""

import re
from collections.abc import AsyncGenerator, Callable
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from cohabit.api.bodies import pieces
from cohabit.api.errors import ApiError, BadRequest

MAX_UPLOAD = 60 << 20  # bytes; it goes to the worker in one frame of at most 64 MiB
_MAX_FIELD = 64 << 10  # bytes of a field that is not the file
_MAX_FIELDS = 32
_ENCODINGS = {b"content-encoding", b"content-transfer-encoding"}
_AS_IT_IS = {b"identity", b"binary", b"8bit", b"7bit"}
_INSIDE = re.compile(r"(\w+)\[(\w+)\]", re.ASCII)  # as OpenAI's clients send objects


class FormParser(MultiPartParser):
    """Takes parts as they are."""

    def on_headers_finished(self) -> None:
        """Raises ApiError for a part that would have to be unpacked."""
        for name, value in self._current_part.item_headers:
            if name in _ENCODINGS and value.strip().lower() not in _AS_IT_IS:
                raise ApiError(415, "encoded parts are not accepted; send them as they are", code="compressed_body")
        super().on_headers_finished()


class _InMemory(FormParser):
    """Writes nothing to the temporary folder, where it would outlive a crash."""

    spool_max_size = MAX_UPLOAD + 1


async def read_form(request: Request) -> tuple[dict[str, Any], bytes]:
    """The fields and the bytes of ``file``. Raises ApiError."""
    form = await parse_form(request, _InMemory, "model", MAX_UPLOAD)
    file = form.get("file")
    data = await file.read() if isinstance(file, UploadFile) else None
    await form.close()
    if data is None:
        raise BadRequest("file is missing: send the audio in this field, with a file name", param="file")
    return fields_of(form), data


async def parse_form(request: Request, kind: Callable[..., FormParser], other: str, most: int) -> FormData:
    """A form of one file and some fields, among them ``other``, of ``most`` bytes. Raises ApiError."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise BadRequest(f"the body must be a form: multipart/form-data with the fields file and {other}")
    parser = kind(
        request.headers,
        _bounded(request, most),
        max_files=1,
        max_fields=_MAX_FIELDS,
        max_part_size=_MAX_FIELD,
    )
    try:
        return await parser.parse()
    except (MultiPartException, ValueError):  # the latter of a charset that is none, or cannot decode
        raise BadRequest(
            f"the form cannot be read: it takes one file and {_MAX_FIELDS} fields of up to {_MAX_FIELD >> 10} KiB"
        ) from None


def fields_of(form: FormData) -> dict[str, Any]:
    """All but files. ``x[]`` is the list ``x``, ``x[y]`` is y of the object ``x``.

    Raises BadRequest for one that is there twice.
    """
    seen: set[str] = set()
    fields: dict[str, Any] = {}
    lists: dict[str, list[str]] = {}
    objects: dict[str, dict[str, str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            continue
        if name.endswith("[]"):
            lists.setdefault(name.removesuffix("[]"), []).append(value)
            continue
        if name in seen:
            raise BadRequest("the form has a field twice; only lists, whose names end in [], may be repeated")
        seen.add(name)
        if match := _INSIDE.fullmatch(name):
            objects.setdefault(match[1], {})[match[2]] = value
        else:
            fields[name] = value
    return fields | lists | objects


async def _bounded(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    size = 0
    async for chunk in pieces(request):
        size += len(chunk)
        if size > most:
            raise ApiError(413, f"the upload is larger than {most >> 20} MiB", code="request_too_large")
        yield chunk
