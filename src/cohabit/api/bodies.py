"""Request bodies: read whole up to a limit, decoded, validated. Which of their fields are: see ``fields``."""

import ast
import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import msgspec
from pydantic_core import from_json
from starlette.requests import ClientDisconnect, Request

from cohabit.api.errors import ApiError, BadRequest
from cohabit.api.http.connections import gone
from cohabit.protocol.messages import MAX_FRAME
from cohabit.runtime.executors import PARSING
from cohabit.runtime.service import MAX_TEXT
from cohabit.schemas.base import MAX_BODY

MAX_DEPTH = 200  # of arrays and objects inside each other
LARGE = 64 << 10  # bytes of JSON from which on it is dealt with in a thread
MAX_SENT = MAX_FRAME - (1 << 20)  # bytes; a request goes to a worker in one frame

S = TypeVar("S", bound=msgspec.Struct)

_TYPES: Mapping[str, str] = {
    "str": "a string",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
}
_BOUNDS: Mapping[str, str] = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
# msgspec's messages, which quote what was sent in some cases: only the parts that are ours are taken from them.
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_TYPE = re.compile(r"Expected `([^`]+)`, got `[^`]+`")
_RANGE = re.compile(r"Expected `(?:int|float)` (>=|<=|>|<) (\S+)")
_LENGTH = re.compile(r"Expected `(str|array|object)` of length (>=|<=) (\d+)")
_PATTERN = re.compile(r"Expected `str` matching regex (.*)")
_CHOICE = re.compile(r"Invalid (?:enum )?value ")
_OURS = re.compile(r"(\w+) (must .*)")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")


async def read(request: Request) -> bytes:
    """The body. Raises ApiError 413 once it is over MAX_BODY, without reading on; ClientDisconnect."""
    body = await read_buffer(request)
    # In a thread where it is large: to copy 32 MiB takes tens of milliseconds.
    return await PARSING.run(bytes, body) if len(body) > LARGE else bytes(body)


async def read_buffer(request: Request) -> bytearray:
    """The body as ``read`` gives it, never held twice."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > MAX_BODY:
        raise _too_large()
    body = bytearray()
    async for chunk in pieces(request):
        body += chunk
        if len(body) > MAX_BODY:
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
        if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
            from_json(raw)  # refuses what is nested too deeply, where msgspec only has the limit of the interpreter
        return msgspec.json.decode(raw)
    except (ValueError, RecursionError):
        raise NotJson from None


class NotJson(BadRequest):
    """Nothing of the body is to be trusted."""

    def __init__(self) -> None:
        """It is the client's to mend."""
        super().__init__("the body is not valid JSON", code="invalid_json")


def encoded(body: Any) -> bytes:
    """As JSON again. Raises ApiError 413 where the pictures that were put in have made it too large for a worker."""
    raw = msgspec.json.encode(body)
    if len(raw) > MAX_SENT:
        raise ApiError(413, "the pictures are too large together; send fewer of them", code="request_too_large")
    return raw


def parsed(kind: type[S], data: Any, prefix: str = "", *, strict: bool = True) -> S:
    """Plain data as a Struct; ``prefix`` goes before a field's name. Not ``strict``: numbers may be in strings.

    Raises BadRequest naming a field that is wrong, never its value.
    """
    try:
        return msgspec.convert(data, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise _explained(str(error), kind, prefix) from None


def check_size(size: int, param: str, most: int = MAX_TEXT) -> None:
    """Raises BadRequest for more bytes of text than can fit."""
    if size > most:
        raise BadRequest(
            f"the request holds {size} bytes of text and at most {most} are taken; shorten it",
            param=param,
            code="context_length_exceeded",
        )


def _explained(text: str, kind: type[msgspec.Struct], prefix: str) -> BadRequest:
    """What is wrong and where. Indices and our own names of fields, not keys that a client made up."""
    text, _, path = text.partition(" - at `$")
    steps = [name or index for name, index in _STEP.findall(path)]
    if match := _MISSING.fullmatch(text):
        steps.append(match[1])
        what = "is missing"
    elif match := _OURS.fullmatch(text):
        steps.append(match[1])
        what = match[2]
    else:
        what = _wrong(text, kind, steps)
    place = ".".join(steps)
    return BadRequest(f"{prefix + place or 'the body'} {what}", param=prefix + place or None)


def _wrong(text: str, kind: type[msgspec.Struct], steps: Sequence[str]) -> str:
    if match := _TYPE.fullmatch(text):
        types = [_TYPES[name] for name in match[1].split(" | ") if name in _TYPES]
        choices = _choices(kind, steps)
        return "must be " + _either([*choices, *(name for name in types if not choices or name != _TYPES["str"])])
    if match := _RANGE.fullmatch(text):
        return f"must be {_BOUNDS[match[1]]} {match[2]}"
    if match := _LENGTH.fullmatch(text):
        if match[2] == ">=" and match[3] == "1":
            return "must not be empty"
        return f"must have {_BOUNDS[match[2]]} {match[3]} {'characters' if match[1] == 'str' else 'entries'}"
    if match := _PATTERN.fullmatch(text):
        return f"must match {ast.literal_eval(match[1])}"
    if _CHOICE.match(text):
        return f"must be {_either(_choices(kind, steps))}"
    return "is not valid"


def _either(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _choices(kind: type[msgspec.Struct], steps: Sequence[str]) -> list[str]:
    """The values that are allowed at a place in a body, if they are named one by one."""
    parts = _schemas_of(kind)
    nodes = list(_branches(parts[kind.__name__], parts))
    for step in steps:
        inner = (node.get("items") if step.isdecimal() else node.get("properties", {}).get(step) for node in nodes)
        nodes = [branch for node in inner if node is not None for branch in _branches(node, parts)]
    return [repr(value) for node in nodes for value in node.get("enum", ()) if value is not None]


@cache
def _schemas_of(kind: type[msgspec.Struct]) -> Mapping[str, Any]:
    return msgspec.json.schema_components([kind])[1]


def _branches(node: Mapping[str, Any], parts: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The node, or all that it may be."""
    if "$ref" in node:
        # What a field is read as later (``any_of``) is not among the parts.
        yield from _branches(parts.get(node["$ref"].rpartition("/")[2], {}), parts)
    elif "anyOf" in node:
        for branch in node["anyOf"]:
            yield from _branches(branch, parts)
    else:
        yield node


def _too_large() -> ApiError:
    return ApiError(413, f"the body is larger than {MAX_BODY >> 20} MiB", code="request_too_large")
