"""``/v1/audio/speech``."""

import base64
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from cohabit.api.context import service_of
from cohabit.api.errors import BadRequest
from cohabit.api.fields import read_fields, warnings
from cohabit.api.openapi import ERRORS
from cohabit.api.routes.models import choose
from cohabit.api.routing import Responses, Router
from cohabit.api.streams import StreamTimeouts, TypedEventStream, events, sound
from cohabit.api.submission import submit
from cohabit.protocol.engine import Speech
from cohabit.protocol.tasks import Task
from cohabit.runtime.requests import ResponseStream
from cohabit.runtime.service import ModelInfo, Service
from cohabit.schemas.speech import VOICES, SpeechRequest

MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "mp3": "audio/mpeg",
        "opus": "audio/ogg",
        "aac": "audio/aac",
        "flac": "audio/flac",
        "wav": "audio/wav",
        "pcm": "audio/pcm",
    }
)
_SOUND: Responses = {
    200: {
        "description": "The sound, sent as it is made. pcm has 16 bits a sample, little-endian, one channel.",
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES.values()}
        | {"text/event-stream": {}},
    }
}
router = Router("audio", {**_SOUND, **ERRORS})


@router.post("/v1/audio/speech", body=SpeechRequest)
async def speak(request: Request) -> Response:
    """Speak a text."""
    validated = await read_fields(SpeechRequest, request)
    body = validated.body
    info, fields, warning = prepare(service_of(request), body)
    validated.choose(info, Task.SPEAK)
    warning = warnings(warning, validated.warning)
    answer = submit(request, info.name, Task.SPEAK, msgspec.json.encode({**fields, **validated.parameters}))
    if body.stream_format == "sse":
        return events(request, answer, warning, partial(SpokenStream, len(body.input)))
    return sound(request, answer, MEDIA_TYPES[body.response_format], warning)


class SpokenStream(TypedEventStream):
    """Sound as events: what is there in base64, piece by piece, then the usage."""

    def __init__(
        self, characters: int, answer: ResponseStream, headers: Mapping[str, str], timeouts: StreamTimeouts
    ) -> None:
        """``characters`` were asked for: speech has no other tokens that are known here."""
        super().__init__(answer, headers, timeouts)
        self._usage = {"input_tokens": characters, "output_tokens": 0, "total_tokens": characters}

    def _events(self, chunks: Sequence[bytes]) -> bytes:
        piece = base64.b64encode(b"".join(chunks)).decode()
        return super()._events([msgspec.json.encode({"type": "speech.audio.delta", "audio": piece})])

    def _end(self) -> bytes:
        return super()._events([msgspec.json.encode({"type": "speech.audio.done", "usage": self._usage})])


def prepare(
    service: Service, body: SpeechRequest, *, prefix: str = "", text: str = "input"
) -> tuple[ModelInfo, dict[str, Any], str | None]:
    """Which model, what its engine is told, and what the client should know of it. Raises ApiError.

    ``prefix`` goes before a field's name; ``text`` is what the client calls ``input``.
    """
    info = choose(service, body.model, Task.SPEAK)
    can = speech_of(info)
    if not body.input.strip():
        raise BadRequest(f"{prefix}{text} is empty; send some text", param=f"{prefix}{text}")
    if not can.slowest <= body.speed <= can.fastest:
        raise BadRequest(
            f"{prefix}speed must be from {can.slowest:g} to {can.fastest:g} for {info.name}", param=f"{prefix}speed"
        )
    voice, without_effect = _voice(info, body.voice, prefix), []
    if voice is None:
        voice = "default"
        without_effect.append(f"{info.name} has no voice of that name; its default was used, config can map the name")
    if body.instructions:
        without_effect.append("instructions are not supported and were not used")
    fields = {
        "model": info.name,
        "input": body.input,
        "voice": voice,
        "response_format": body.response_format,
        "speed": body.speed,
    }
    return info, fields, warnings(*without_effect)


def speech_of(info: ModelInfo) -> Speech:
    """What a model with the task ``speak`` can be asked for."""
    if info.speech is None:
        raise AssertionError("a model that speaks says how")
    return info.speech


def _voice(info: ModelInfo, name: str, prefix: str) -> str | None:
    """The engine's name of a voice; None for one of OpenAI's that is not mapped. Raises BadRequest."""
    own = speech_of(info).voices
    if name in info.voices:
        return info.voices[name]
    if name in own:
        return name
    if name in VOICES:
        return None
    param = f"{prefix}voice"
    known = ", ".join(dict.fromkeys((*own, *info.voices)))
    raise BadRequest(f"{info.name} has no such voice; it has {known}", param=param, code="unknown_voice")
