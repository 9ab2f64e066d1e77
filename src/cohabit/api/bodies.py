"""Request bodies: read whole up to a limit, decoded, validated. Which of their fields are: see ``fields``."""

from collections.abc import AsyncGenerator, Mapping
from functools import cache
from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, from_json
from starlette.requests import ClientDisconnect, Request

from cohabit.api.errors import ApiError, BadRequest
from cohabit.api.http.connections import gone
from cohabit.protocol.messages import MAX_FRAME
from cohabit.runtime.executors import PARSING
from cohabit.runtime.service import MOST_TEXT
from cohabit.schemas.body import MOST_BODY

LARGE = 64 << 10  # bytes of JSON from which on it is dealt with in a thread
MOST_SENT = MAX_FRAME - (1 << 20)  # bytes; a request goes to a worker in one frame

M = TypeVar("M", bound=BaseModel)

# By pydantic's type of an error. Only what the schema expects is filled in: pydantic's own messages quote the input.
_SAYS: Mapping[str, str] = {
    "missing": "is missing",
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be an array",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "literal_error": "must be {expected}",
    "union_tag_invalid": "must have one of these as its {discriminator}: {expected_tags}",
    "union_tag_not_found": "must have the field {discriminator}",
    "string_pattern_mismatch": "must match {pattern}",
    "float_parsing": "must be a number",
    "int_parsing": "must be a whole number",
    "duration": "must be a time such as 90m, 24h or 7d",
    "window": "must be a time between 1m and 30d",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have at least {min_length} entries",
    "too_long": "must have at most {max_length} entries",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
}


async def read(request: Request) -> bytes:
    """The body. Raises ApiError 413 once it is over MOST_BODY, without reading on; ClientDisconnect."""
    body = await read_buffer(request)
    # In a thread where it is large: to copy 32 MiB takes tens of milliseconds.
    return await PARSING.run(bytes, body) if len(body) > LARGE else bytes(body)


async def read_buffer(request: Request) -> bytearray:
    """The body as ``read`` gives it, never held twice."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MOST_BODY:
        raise _too_large()
    body = bytearray()
    async for chunk in pieces(request):
        body += chunk
        if len(body) > MOST_BODY:
            raise _too_large()
    return body


async def pieces(request: Request) -> AsyncGenerator[bytes, None]:
    """The body as it comes. Raises ClientDisconnect, also where there is more to read but nobody waits any more.

    Of a crowd that sends and hangs up nothing is read then: to read it all would keep the others waiting.
    """
    async for chunk in request.stream():
        if len(chunk) > LARGE and gone(request.scope):
            raise ClientDisconnect
        yield chunk


def decoded(raw: bytes) -> Any:
    """The body as plain data. Raises BadRequest for what a worker's parser might choke on.

    That is invalid JSON or UTF-8, nesting deeper than 200 levels, and numbers that are not finite.
    """
    try:
        found = from_json(raw, allow_inf_nan=False)
        msgspec.json.decode(raw)  # refuses 1e999 too, which the other takes for infinity
    except (ValueError, RecursionError):
        raise NotJson from None
    return found


class NotJson(BadRequest):
    """Nothing of the body is to be trusted."""

    def __init__(self) -> None:
        """It is the client's to mend."""
        super().__init__("the body is not valid JSON", code="invalid_json")


def encoded(body: Any) -> bytes:
    """As JSON again. Raises ApiError 413 where the pictures that were put in have made it too large for a worker."""
    raw = msgspec.json.encode(body)
    if len(raw) > MOST_SENT:
        raise ApiError(413, "the pictures are too large together; send fewer of them", code="request_too_large")
    return raw


def parsed(kind: type[M], data: Any, prefix: str = "") -> M:
    """Plain data as a model; ``prefix`` goes before a field's name.

    Raises BadRequest naming a field that is wrong, never its value.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _told(error, kind, data, prefix) from None


def bounded(size: int, param: str, most: int = MOST_TEXT) -> None:
    """Raises BadRequest for more bytes of text than can fit."""
    if size > most:
        raise BadRequest(
            f"the request holds {size} bytes of text and at most {most} are taken; shorten it",
            param=param,
            code="context_length_exceeded",
        )


def _told(error: ValidationError, kind: type[BaseModel], data: Any, prefix: str) -> BadRequest:
    found = error.errors(include_url=False, include_input=False)
    same = [each for each in found if each["loc"][:1] == found[0]["loc"][:1]]
    meant = max(same, key=_reach)
    known = _field_names(kind)
    place = _place(meant, data, known)
    says = [_says(meant)]
    if meant["type"].endswith("_type"):
        others = [each for each in same if each["type"].endswith("_type") and _place(each, data, known) == place]
        says = list(dict.fromkeys(map(_says, others)))
    what = " or ".join([says[0], *(each.removeprefix("must be ") for each in says[1:])])
    return BadRequest(f"{prefix + place or 'the body'} {what}", param=prefix + place or None)


def _reach(detail: ErrorDetails) -> tuple[bool, int, bool]:
    """Each branch of a union has its say; the one that got furthest is the one that was meant.

    One that only found a list too long had found nothing wrong in it.
    """
    return detail["type"] == "too_long", len(detail["loc"]), not detail["type"].endswith("_type")


def _says(detail: ErrorDetails) -> str:
    expected = detail.get("ctx", {})
    if expected.get("min_length") == 1 and detail["type"] in ("too_short", "string_too_short"):
        return "must not be empty"
    return _SAYS.get(detail["type"], "is not valid").format_map(expected)


def _place(detail: ErrorDetails, data: Any, known: frozenset[str]) -> str:
    """``messages.0.role``: indices and field names of ours.

    Not the names of a union's branches, which pydantic puts in between, nor keys that a client made up.
    """
    parts = []
    for part in detail["loc"]:
        if isinstance(part, int):
            parts.append(str(part))
            data = data[part]
        elif isinstance(data, dict) and part in data:
            if part in known:
                parts.append(part)
            data = data[part]
    if detail["type"] == "missing":
        parts.append(str(detail["loc"][-1]))
    return ".".join(parts)


@cache
def _field_names(kind: type[BaseModel]) -> frozenset[str]:
    schema: dict[str, Any] = kind.model_json_schema()
    names = set(schema.get("properties", {}))
    for definition in schema.get("$defs", {}).values():
        names |= set(definition.get("properties", {}))
    return frozenset(names)


def _too_large() -> ApiError:
    return ApiError(413, f"the body is larger than {MOST_BODY >> 20} MiB", code="request_too_large")
