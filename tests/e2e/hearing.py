"""How well what was said is heard."""

import re


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
