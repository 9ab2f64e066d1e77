"""Subtitles are what players read: numbers, times, text that cannot be taken for either."""

from typing import Any

import pytest

from cohabit.schemas.transcription import srt, vtt


def segment(start: float, end: float, text: str) -> dict[str, Any]:
    return {"start": start, "end": end, "text": text}


TWO = [segment(0.0, 1.5, " Hello."), segment(3599.9996, 360_000.25, " A & B <i> --> C")]


def test_srt_has_numbered_cues() -> None:
    assert srt(TWO) == (
        "1\n00:00:00,000 --> 00:00:01,500\nHello.\n\n2\n01:00:00,000 --> 100:00:00,250\nA & B <i> -> C\n"
    )


def test_vtt_has_cues() -> None:
    assert vtt(TWO) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nHello.\n\n"
        "01:00:00.000 --> 100:00:00.250\nA &amp; B &lt;i&gt; --&gt; C\n"
    )


@pytest.mark.parametrize("segments", [[], [segment(0, 1, " \n ")]])
def test_silence_has_no_cues(segments: list[dict[str, Any]]) -> None:
    assert srt(segments) == ""
    assert vtt(segments) == "WEBVTT\n"


def test_text_of_several_lines_stays_in_its_cue() -> None:
    said = [segment(0, 1, "one\n\n2\ntwo"), segment(1, 2, ""), segment(2, 3, "three")]
    assert srt(said).split("\n\n")[0] == "1\n00:00:00,000 --> 00:00:01,000\none 2 two"
    assert srt(said).split("\n\n")[1].startswith("2\n"), "numbers have no gaps"


def test_cue_ends_after_it_begins() -> None:
    assert "00:00:02.000 --> 00:00:02.001" in vtt([segment(2.0, 2.0, "now")])
