"""``/v1/audio/speech``."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from cohabit.api.answers import submit
from cohabit.api.bodies import read, validated
from cohabit.api.documents import ERRORS, Responses, body_of
from cohabit.api.errors import BadRequest
from cohabit.api.models import choose, service_of
from cohabit.api.routes import Direct
from cohabit.api.streams import sound
from cohabit.openai.speech import VOICES, SpeechRequest
from cohabit.protocol.engine import Speech
from cohabit.protocol.tasks import Task
from cohabit.runtime.service import ModelInfo, Service

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
        "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in MEDIA_TYPES.values()},
    }
}
router = APIRouter(route_class=Direct, tags=["audio"], responses={**_SOUND, **ERRORS})


@router.post("/v1/audio/speech", openapi_extra=body_of(SpeechRequest), response_class=Response)
async def speak(request: Request) -> Response:
    """Speak a text."""
    body = validated(SpeechRequest, await read(request))
    info, told, warning = understood(service_of(request), body)
    answer = submit(request, info.name, Task.SPEAK, msgspec.json.encode(told))
    return await sound(request, answer, MEDIA_TYPES[body.response_format], warning)


def understood(
    service: Service, asked: SpeechRequest, *, prefix: str = "", text: str = "input"
) -> tuple[ModelInfo, dict[str, Any], str | None]:
    """Which model, what its engine is told, and what the client should know of it. Raises ApiError.

    ``prefix`` goes before a field's name; ``text`` is what the client calls ``input``.
    """
    info = choose(service, asked.model, Task.SPEAK)
    can = of(info)
    if not asked.input.strip():
        raise BadRequest(f"{prefix}{text} is empty; send some text", param=f"{prefix}{text}")
    if not can.slowest <= asked.speed <= can.fastest:
        raise BadRequest(
            f"{prefix}speed must be from {can.slowest:g} to {can.fastest:g} for {info.name}", param=f"{prefix}speed"
        )
    voice, warnings = _voice(info, asked.voice, prefix), []
    if voice is None:
        voice = "default"
        warnings.append(f"{info.name} has no voice of that name; its default was used, config can map the name")
    if asked.instructions:
        warnings.append("instructions are not supported and were not used")
    told = {**asked.model_dump(exclude={"instructions", "stream_format", "user"}), "model": info.name, "voice": voice}
    return info, told, "; ".join(warnings) or None


def of(info: ModelInfo) -> Speech:
    """What a model with the task ``speak`` can be asked for."""
    if info.speech is None:
        raise AssertionError("a model that speaks says how")
    return info.speech


def _voice(info: ModelInfo, asked: str, prefix: str) -> str | None:
    """The engine's name of a voice; None for one of OpenAI's that is not mapped. Raises BadRequest."""
    own = of(info).voices
    if asked in info.voices:
        return info.voices[asked]
    if asked in own:
        return asked
    if asked in VOICES:
        return None
    param = f"{prefix}voice"
    known = ", ".join(dict.fromkeys((*own, *info.voices)))
    raise BadRequest(f"{info.name} has no such voice; it has {known}", param=param, code="unknown_voice")
