"""Bounds on the text of a prompt, before llama.cpp's tokenizer sees it.

The tokenizer can be neither interrupted nor bounded: it recurses once for each character of a long run of letters,
and its time grows with the square of the number of control tokens. So a text that cannot fit is refused by its bytes,
and the thread that tokenizes has a stack that is large enough for the longest run that is taken.
"""

import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from cohabit.engines.llamacpp.gguf_header import Vocabulary
from cohabit.engines.per_item import BadItem

MAX_RUN = 60_000  # characters of one kind in a row: half of what LARGE_STACK was seen to take
MAX_CONTROL = 4096  # control tokens such as <|im_end|> in one text: a fifth of a second
LARGE_STACK = 64 << 20  # bytes; some 550 are taken by each character of a run
_SMALL_RUN = 4000  # characters that the usual stack of 8 MiB takes with room to spare


class Prompts:
    """Knows the context and the vocabulary of one model."""

    def __init__(self, context: int, vocabulary: Vocabulary) -> None:
        """``context`` in tokens."""
        self._most = context * vocabulary.longest
        self._most_control = min(context, MAX_CONTROL)
        self._control = vocabulary.control

    def stack(self, body: Mapping[str, Any]) -> int:
        """Bytes of stack that tokenizing takes; 0 for what a thread has anyway. Raises BadItem."""
        prompts: list[Any]
        if "messages" in body:  # the template makes one text of them all
            param, prompts = "messages", [[body["messages"], body.get("tools")]]
        else:
            prompt = body.get("prompt")
            param, prompts = "prompt", prompt if isinstance(prompt, list) else [prompt]
        longest = 0
        for prompt in prompts:
            text = "\n".join(_texts(prompt))
            if len(text) > self._most or len(text.encode()) > self._most:
                raise _too_long(f"{param} cannot fit into the context: no text of its tokens is so long", param)
            if sum(text.count(token) for token in self._control) > self._most_control:
                raise _too_long(f"{param} has more than {self._most_control} control tokens", param)
            if len(text) >= _SMALL_RUN:
                longest = max(longest, longest_run(text))
        if longest > MAX_RUN:
            raise _too_long(f"{param} has more than {MAX_RUN} letters, spaces or signs in a row", param)
        return LARGE_STACK if longest > _SMALL_RUN else 0


def longest_run(text: str) -> int:
    """Characters of one kind in a row: letters with their marks, digits, white space, or others."""
    return max((found.end() - found.start() for found in _runs().finditer(text)), default=0)


@cache
def _runs() -> re.Pattern[str]:
    marks = "".join(
        re.escape(chr(code)) for code in range(sys.maxunicode) if unicodedata.category(chr(code)).startswith("M")
    )
    return re.compile(rf"(?:[^\W\d]|[{marks}])+|\d+|\s+|[^\w\s{marks}]+")


def _texts(value: Any) -> Iterator[str]:
    """Those of a request that go into the prompt; pictures are none."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, dict) and value.get("type") != "image_url":
        for inner in value.values():
            yield from _texts(inner)


def _too_long(why: str, param: str) -> BadItem:
    return BadItem(f"{why}; shorten it", param=param, code="context_length_exceeded")
