"""The input of a batch, a line of JSON for each request.

Source: OpenAI's API reference, "The request input object".
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from cohabit.schemas.base import MAX_BODY
from cohabit.schemas.batches import ENDPOINTS

MAX_LINE = MAX_BODY
MAX_CUSTOM_ID = 512  # characters
CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # PostgreSQL keeps no zero bytes, and nobody means the others


class _Line(msgspec.Struct):
    custom_id: str
    url: str
    body: msgspec.Raw
    method: str = "POST"


class _Named(msgspec.Struct):
    custom_id: Any = None


class _Body(msgspec.Struct):
    model: Any = None
    stream: Any = None


_line = msgspec.json.Decoder(_Line)
_named = msgspec.json.Decoder(_Named)
_body = msgspec.json.Decoder(_Body)


class WrongLine(Exception):
    """A line that cannot be asked; the text says why and quotes nothing."""

    def __init__(self, code: str, message: str, *, param: str | None = None, custom_id: str | None = None) -> None:
        """``custom_id`` if it has one, so that it can be found."""
        super().__init__(message)
        self.code = code
        self.param = param
        self.custom_id = custom_id


@dataclass(frozen=True, slots=True)
class ParsedLine:
    """A line that can be."""

    custom_id: str
    url: str
    model: str | None  # as the line has it
    body: bytes


def parse(raw: bytes) -> ParsedLine:
    """A line of the input. Raises WrongLine."""
    try:
        found = _line.decode(raw)
    except msgspec.ValidationError:
        custom_id = _custom_id(raw)
        needs = '"custom_id", "method": "POST", "url" and "body", of which the last is an object'
        raise WrongLine("invalid_line", f"a line needs {needs}", custom_id=custom_id) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise WrongLine("invalid_json_line", "the line is not valid JSON") from None
    if not _sane(found.custom_id):
        message = f"custom_id must have 1 to {MAX_CUSTOM_ID} characters, and no control characters"
        raise WrongLine("invalid_custom_id", message, param="custom_id")
    if found.method != "POST":
        raise WrongLine("invalid_method", 'method must be "POST"', param="method", custom_id=found.custom_id)
    if found.url not in ENDPOINTS:
        message = f"url must be one of {', '.join(ENDPOINTS)}"
        raise WrongLine("invalid_url", message, param="url", custom_id=found.custom_id)
    try:
        body = _body.decode(found.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise WrongLine("invalid_body", "body must be an object", param="body", custom_id=found.custom_id) from None
    if body.stream:
        message = "a batch has nobody to stream to; leave stream out"
        raise WrongLine("stream_in_batch", message, param="body.stream", custom_id=found.custom_id)
    model = body.model if isinstance(body.model, str) else None
    return ParsedLine(found.custom_id, found.url, model, bytes(found.body))


def _custom_id(raw: bytes) -> str | None:
    try:
        found = _named.decode(raw).custom_id
    except msgspec.ValidationError:  # it is no object
        return None
    return found if isinstance(found, str) and _sane(found) else None


def _sane(custom_id: str) -> bool:
    return 0 < len(custom_id) <= MAX_CUSTOM_ID and CONTROL.search(custom_id) is None


class Splitter:
    """Cuts a stream of pieces into lines, of which none is held beyond MAX_LINE."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._too_long = False

    def lines(self, piece: bytes) -> Iterator[bytes | None]:
        """Those that end in it, without their ends; None for one that was too long."""
        *ended, rest = piece.split(b"\n")
        for part in ended:
            self._add(part)
            yield self._take()
        self._add(rest)

    def last(self) -> bytes | None:
        """What stands behind the last end; empty if nothing does."""
        return self._take()

    def _add(self, part: bytes) -> None:
        if len(self._rest) + len(part) > MAX_LINE:
            self._too_long = True
            self._rest.clear()
        if not self._too_long:
            self._rest += part

    def _take(self) -> bytes | None:
        line = None if self._too_long else bytes(self._rest).strip()
        self._rest.clear()
        self._too_long = False
        return line


Resolve = Callable[[str], str | None]
"""The configured model that a name or alias means."""
