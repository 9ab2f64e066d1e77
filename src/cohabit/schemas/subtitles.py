"""Subtitles of what was heard: the formats ``srt`` and ``vtt``.

Sources: "WebVTT: The Web Video Text Tracks Format" (W3C), sections 4.1 and 4.2; SubRip has no specification, players
take what its program wrote. Times are seconds from the beginning of the sound.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Segments = Sequence[Mapping[str, Any]]
"""``start``, ``end`` and ``text`` of each, as in ``verbose_json``."""


def srt(segments: Segments) -> str:
    """SubRip. Nothing for no segments."""
    cues = enumerate(_cues(segments), start=1)
    # There are no escapes; an arrow in the text would be taken for the line with the times.
    return "\n".join(
        f"{number}\n{_clock(start, ',')} --> {_clock(end, ',')}\n{text.replace('-->', '->')}\n"
        for number, (start, end, text) in cues
    )


def vtt(segments: Segments) -> str:
    """WebVTT. For no segments a file without cues."""
    cues = [
        f"{_clock(start, '.')} --> {_clock(end, '.')}\n{_escaped(text)}\n" for start, end, text in _cues(segments)
    ]
    return "\n".join(["WEBVTT\n", *cues])


def _cues(segments: Segments) -> Iterator[tuple[int, int, str]]:
    """Start and end in milliseconds and the text, on one line: an empty one would end the cue."""
    for segment in segments:
        text = " ".join(segment["text"].split())
        start, end = (round(segment[key] * 1000) for key in ("start", "end"))
        if text:
            yield start, max(end, start + 1), text  # a cue must end after it began


def _clock(milliseconds: int, point: str) -> str:
    """``hh:mm:ss,mmm``; hours may have more digits."""
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}{point}{milliseconds:03}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
