"""Request bodies: read whole up to a limit, validated, and kept as the bytes they came as."""

import re
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from cohabit.api.errors import ApiError, BadRequest

MOST_BODY = 16 << 20  # bytes
MOST_TEXT = 1 << 20  # bytes of text in one request; tokens are counted in the worker

M = TypeVar("M", bound=BaseModel)
_UNION_BRANCH = re.compile(r"\W")  # pydantic names the branches of a union inside an error's place


async def read(request: Request) -> bytes:
    """The body. Raises ApiError 413 once it is over MOST_BODY, without reading on."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MOST_BODY:
        raise _too_large()
    chunks = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > MOST_BODY:
            raise _too_large()
        chunks.append(chunk)
    return b"".join(chunks)


def validated(kind: type[M], raw: bytes) -> M:
    """The body as a model. Raises BadRequest naming the first field that is wrong, never its value."""
    try:
        return kind.model_validate_json(raw)
    except ValidationError as error:
        raise told(error, kind) from None


def told(error: ValidationError, kind: type[BaseModel], prefix: str = "") -> BadRequest:
    """What is wrong with a body, without a word of what was in it."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return BadRequest("the body is not JSON", code="invalid_json")
    param = prefix + _place(first["loc"], kind)
    if first["type"] == "model_type" and not first["loc"]:
        return BadRequest("the body must be a JSON object")
    if first["type"] == "extra_forbidden":
        return BadRequest(f"{param.rpartition('.')[0] or 'the body'} has a field that is not known here")
    what = "is missing" if first["type"] == "missing" else f"is not valid: {_lower(first['msg'])}"
    return BadRequest(f"{param or 'the body'} {what}", param=param or None)


def _place(loc: tuple[int | str, ...], kind: type[BaseModel]) -> str:
    """``messages.0.role``: field names of ours and indices, not keys that a client made up."""
    known = _field_names(kind)
    parts = [str(part) for part in loc if isinstance(part, int) or (part in known and not _UNION_BRANCH.search(part))]
    return ".".join(parts)


def _field_names(kind: type[BaseModel]) -> set[str]:
    schema: dict[str, Any] = kind.model_json_schema()
    names = set(schema.get("properties", {}))
    for definition in schema.get("$defs", {}).values():
        names |= set(definition.get("properties", {}))
    return names


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _too_large() -> ApiError:
    return ApiError(413, f"the body is larger than {MOST_BODY >> 20} MiB", code="request_too_large")
