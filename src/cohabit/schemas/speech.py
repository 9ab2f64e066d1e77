"""``/v1/audio/speech``. Source: OpenAI's API reference, "Create speech"."""

from typing import Annotated, Literal

from msgspec import Meta

from cohabit.schemas.base import Body

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


class SpeechRequest(Body, kw_only=True):
    """Text to be spoken."""

    input: Annotated[str, Meta(min_length=1, max_length=MAX_CHARACTERS)]
    voice: Annotated[str, Meta(min_length=1, max_length=64)] = "default"
    response_format: Literal["mp3", "opus", "aac", "flac", "wav", "pcm"] = "mp3"
    speed: Annotated[float, Meta(ge=0.25, le=4)] = 1.0
    instructions: Annotated[str, Meta(max_length=MAX_CHARACTERS)] | None = None
    stream_format: Literal["audio", "sse"] | None = None
