"""JSON schemas as grammars for llama.cpp, in llguidance's language, which holds what is generated to them.

llama.cpp's own conversion takes a strict schema too that it understands in part, and logs the other part. A grammar
that llguidance cannot take is left out by llama.cpp in silence, so that each is tried before it is used.
"""

import json
from collections.abc import Sequence
from typing import Any

Schema = dict[str, Any]

MARK = "#@#"  # what no model says by itself
_JSON: Schema = {  # as json.dumps writes it: free white space is where a small model loses itself
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "coerce_one_of": True,  # a choice whose branches might overlap is one all the same
}
_HEAD = "%llguidance {}\n"
_NOTHING: Schema = {"type": "object", "properties": {}, "additionalProperties": False}


def of_answer(schema: Schema, *, strict: bool) -> str:
    """An answer that is one JSON value. ``strict`` is OpenAI's: to the last keyword, or the grammar is of no use."""
    return f"{_HEAD}start: {_json(schema, strict)}\n"


def of_calls(functions: Sequence[Schema], *, forced: bool) -> str:
    """A call of one of these functions (OpenAI's ``function`` objects), or where it is not forced any other text.

    A call reads ``opening(name)``, its arguments, ``}``.
    """
    ways = [f"call{index}" for index in range(len(functions))]
    lines = [f"start: {' | '.join(ways if forced else [*ways, 'text'])}"]
    for index, function in enumerate(functions):
        lines.append(f'call{index}: {json.dumps(opening(function["name"]))} arguments{index} "}}"')
        lines.append(f"arguments{index}: {_json(function.get('parameters') or _NOTHING, function.get('strict'))}")
    if not forced:
        lines.append(r"text: /([^{](.|\n)*)?/")
    return _HEAD + "\n".join(lines) + "\n"


def opening(name: str) -> str:
    """How a call begins, before its arguments."""
    return f'{{"name": {json.dumps(name)}, "arguments": '


def trial(grammar: str) -> str:
    """A grammar of which MARK is the beginning if, and only if, this one can be used."""
    return grammar.replace("start: ", f'start: "{MARK}" wanted\nwanted: ', 1)


def _json(schema: Schema, strict: bool | None) -> str:
    return f"%json {json.dumps({**schema, 'x-guidance': {**_JSON, 'lenient': not strict}})}"
