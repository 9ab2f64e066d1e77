"""``/v1/audio/transcriptions`` and ``/v1/audio/translations``. Source: OpenAI's API reference, "Audio"."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta, Struct

from cohabit.schemas.base import Fields, ModelName

_NO_SPEAKERS = "speakers are not distinguished; leave it out"


class AudioRequest(Fields, kw_only=True):
    """What both forms have beside ``file``; fields come as text."""

    refused: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            name: f"{name} is not supported: {_NO_SPEAKERS}"
            for name in ("known_speaker_names", "known_speaker_references")
        }
    )

    model: ModelName
    language: (
        Annotated[str, Meta(pattern=r"^[a-z]{2,3}(?!\n)$", description="What is spoken: a code such as `en`.")] | None
    ) = None
    prompt: (
        Annotated[str, Meta(max_length=4096, description="What was said before, or how names are spelt.")] | None
    ) = None
    response_format: Literal["json", "text", "srt", "vtt", "verbose_json"] = "json"
    temperature: Annotated[float, Meta(ge=0, le=1)] = 0.0
    user: str | None = None

    def _shared(self) -> dict[str, Any]:
        given = {"language": self.language, "prompt": self.prompt, "temperature": self.temperature}
        return {name: value for name, value in given.items() if value is not None}


class TranscriptionRequest(AudioRequest, kw_only=True):
    """Sound to be written down in its own language."""

    timestamp_granularities: Annotated[list[Literal["segment", "word"]], Meta(max_length=2)] | None = None
    stream: bool = False
    include: Annotated[list[Literal["logprobs"]], Meta(max_length=1)] | None = None
    chunking_strategy: Annotated[
        Literal["auto"] | None,
        Meta(description="Sound is always cut where nobody speaks, so that there is nothing to set."),
    ] = None

    def engine_parameters(self) -> dict[str, Any]:
        """The parameters of the engine."""
        given = {
            **self._shared(),
            "timestamp_granularities": self.timestamp_granularities,
            "stream": self.stream or None,
        }
        return {name: value for name, value in given.items() if value is not None}


class TranslationRequest(AudioRequest, kw_only=True):
    """Sound to be written down in English. OpenAI's has no ``language``; without, it is found out."""

    def engine_parameters(self) -> dict[str, Any]:
        """The parameters of the engine."""
        return {"task": "translate", **self._shared()}


class Duration(Struct, kw_only=True):
    """What was heard."""

    type: Literal["duration"] = "duration"
    seconds: float


class Transcription(Struct, kw_only=True):
    """The answer in the format ``json``; ``verbose_json`` has more."""

    text: str
    usage: Duration


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
