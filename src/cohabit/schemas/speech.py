"""``/v1/audio/speech``. Source: OpenAI's API reference, "Create speech"."""

from typing import Literal

from pydantic import Field

from cohabit.schemas.body import Body, Number

MAX_CHARACTERS = 32_768  # about half an hour of speech
VOICES = frozenset(
    {
        "alloy",
        "ash",
        "ballad",
        "cedar",
        "coral",
        "echo",
        "fable",
        "marin",
        "nova",
        "onyx",
        "sage",
        "shimmer",
        "verse",
    }
)
"""OpenAI's names, which clients send whatever the model."""


class SpeechRequest(Body):
    """Text to be spoken."""

    input: str = Field(min_length=1, max_length=MAX_CHARACTERS)
    voice: str = Field("default", min_length=1, max_length=64)
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: Number = Field(1.0, ge=0.25, le=4)
    instructions: str | None = Field(None, max_length=MAX_CHARACTERS)
    stream_format: Literal["audio", "sse"] | None = None
