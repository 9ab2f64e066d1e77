"""``/v1/audio/transcriptions`` and ``/v1/audio/translations``. Source: OpenAI's API reference, "Audio"."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from cohabit.schemas.body import Fields, ModelName, Number

_NO_SPEAKERS = "speakers are not told apart here; leave it out"


class HearingRequest(Fields):
    """What both forms have beside ``file``; fields come as text."""

    model_config = ConfigDict(strict=False)
    refused: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            name: f"{name} is not supported: {_NO_SPEAKERS}"
            for name in ("known_speaker_names", "known_speaker_references")
        }
    )

    model: ModelName
    language: str | None = Field(None, pattern=r"^[a-z]{2,3}$", description="What is spoken: a code such as `en`.")
    prompt: str | None = Field(None, max_length=4096, description="What was said before, or how names are spelt.")
    response_format: Literal["json", "text", "srt", "vtt", "verbose_json"] = "json"
    temperature: Number = Field(0.0, ge=0, le=1)
    user: str | None = None


class TranscriptionRequest(HearingRequest):
    """Sound to be written down in its own language."""

    timestamp_granularities: list[Literal["segment", "word"]] | None = Field(None, max_length=2)
    stream: bool = False
    include: list[Literal["logprobs"]] | None = Field(None, max_length=1)
    chunking_strategy: Literal["auto"] | None = Field(
        None, description="Sound is always cut where nobody speaks, so that there is nothing to set."
    )

    def words(self) -> dict[str, Any]:
        """What the engine is told."""
        told = {"language", "prompt", "temperature", "timestamp_granularities"}
        return self.model_dump(include=told, exclude_none=True) | ({"stream": True} if self.stream else {})


class TranslationRequest(HearingRequest):
    """Sound to be written down in English. OpenAI's has no ``language``; without, it is found out."""

    def words(self) -> dict[str, Any]:
        """What the engine is told."""
        told = {"language", "prompt", "temperature"}
        return {"task": "translate", **self.model_dump(include=told, exclude_none=True)}


class Duration(BaseModel):
    """What was heard."""

    type: Literal["duration"] = "duration"
    seconds: float


class Transcription(BaseModel):
    """The answer in the format ``json``; ``verbose_json`` has more."""

    model_config = ConfigDict(extra="allow")

    text: str
    usage: Duration
