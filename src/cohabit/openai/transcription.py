"""``/v1/audio/transcriptions``. Source: OpenAI's API reference, "Create transcription"."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cohabit.openai.body import ModelName, Number


class TranscriptionRequest(BaseModel):
    """The form's fields beside ``file``; they come as text."""

    model_config = ConfigDict(extra="forbid")

    model: ModelName
    language: str | None = Field(None, pattern=r"^[a-z]{2,3}$", description="A code such as `en`.")
    prompt: str | None = Field(None, max_length=4096, description="What was said before, or how names are spelt.")
    response_format: Literal["json", "text", "verbose_json"] = "json"
    temperature: Number = Field(0.0, ge=0, le=1)
    timestamp_granularities: list[Literal["segment", "word"]] | None = Field(None, max_length=2)
    user: str | None = None

    def words(self) -> dict[str, Any]:
        """What the engine is told."""
        told = {"language", "prompt", "temperature", "timestamp_granularities"}
        return self.model_dump(include=told, exclude_none=True)


class Transcription(BaseModel):
    """The answer in the format ``json``; ``verbose_json`` has more."""

    model_config = ConfigDict(extra="allow")

    text: str
