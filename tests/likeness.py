"""Whether a model said what was meant. Never word for word: on another machine it computes a little differently."""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher

MAX_ERRORS = 0.3
"""A transcript with more errors than this share of its words was not understood."""

ALIKE = 0.75
"""The least ratio of difflib between what is written and what was read."""

_TOKEN = re.compile(r"[\w'-]+")


def words(text: str) -> list[str]:
    """Normalised: lower case, letters only."""
    return re.findall(r"[a-z']+", text.lower())


def word_error(said: str, heard: str) -> float:
    """Edits between the two, as a share of what was said (Levenshtein's distance over words)."""
    before, after = words(said), words(heard)
    row = list(range(len(after) + 1))
    for count, word in enumerate(before, start=1):
        following = [count]
        for place, other in enumerate(after, start=1):
            following.append(min(row[place] + 1, following[-1] + 1, row[place - 1] + (word != other)))
        row = following
    return row[-1] / len(before)


def understood(said: str, heard: str) -> bool:
    """Whether a transcript tells what was said."""
    return word_error(said, heard) <= MAX_ERRORS


def contains(text: str, written: str) -> bool:
    """Whether somewhere in ``text`` are words much like ``written``, as a reader of pictures finds them."""
    found, wanted = _TOKEN.findall(text), _TOKEN.findall(written)
    parts = (found[at : at + len(wanted)] for at in range(len(found)))
    return any(alike(" ".join(wanted), " ".join(part)) for part in parts)


def same_lines(read: Sequence[str], written: Sequence[str]) -> bool:
    """Whether as many lines were read as were written, each much like its own."""
    return len(read) == len(written) and all(map(alike, written, read))


def alike(written: str, read: str) -> bool:
    """Whether two texts differ in a few signs at most."""
    return SequenceMatcher(None, written.lower(), read.lower()).ratio() >= ALIKE
