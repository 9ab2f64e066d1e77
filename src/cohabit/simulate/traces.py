"""Traces: what was asked and when, one JSON object a line."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, TextIO

import msgspec
from msgspec.structs import replace

Seconds = Annotated[float, msgspec.Meta(ge=0)]


class TraceError(Exception):
    """A trace cannot be used. One line: which line of it and what is wrong."""


class Arrival(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request. ``at`` counts from the trace's own zero; ``client`` matters to whose turn it is; ``background``
    work gives way to all other."""

    at: Seconds
    model: str
    run_seconds: Seconds
    client: str = ""
    background: bool = False


def read_trace(path: Path, names: Mapping[str, str] | None = None) -> list[Arrival]:
    """All of a file, in order of time, whatever the order of its lines. Raises TraceError.

    ``names`` are those a request may use, and the model that each means; without it any will do.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from None
    decoder = msgspec.json.Decoder(Arrival)
    arrivals = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            arrival = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TraceError(f"{path}: line {number}: {_error_text(error)}") from None
        if names is not None:
            if arrival.model not in names:
                near = get_close_matches(arrival.model, names, n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise TraceError(f"{path}: line {number}: the config has no model {arrival.model!r}{hint}")
            arrival = replace(arrival, model=names[arrival.model])
        arrivals.append(arrival)
    if not arrivals:
        raise TraceError(f"{path}: no request is in it")
    return sorted(arrivals, key=lambda arrival: arrival.at)


def _error_text(error: Exception) -> str:
    if not isinstance(error, msgspec.ValidationError):
        return 'not JSON; a line such as {"at": 0.5, "model": "llm", "run_seconds": 2} is needed'
    text, _, place = str(error).partition(" - at `$.")
    return f"{place.rstrip('`')}: {text[0].lower()}{text[1:]}" if place else f"{text[0].lower()}{text[1:]}"


def write_trace(arrivals: Iterable[Arrival], file: TextIO) -> None:
    encode = msgspec.json.Encoder().encode
    file.writelines(encode(arrival).decode() + "\n" for arrival in arrivals)
