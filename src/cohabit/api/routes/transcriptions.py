"""``/v1/audio/transcriptions`` and ``/v1/audio/translations``."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from cohabit.api.context import service_of
from cohabit.api.errors import BadRequest
from cohabit.api.fields import validate_form
from cohabit.api.media.media_inputs import attended, media_of
from cohabit.api.middleware.disconnects import CLIENT_GONE
from cohabit.api.model_support import require
from cohabit.api.openapi import ERRORS
from cohabit.api.routes.models import choose
from cohabit.api.routing import Responses, Router
from cohabit.api.streams import TypedEventStream, events
from cohabit.api.submission import collect, submit, timings
from cohabit.api.uploads import read_form
from cohabit.protocol.tasks import Capability, Task
from cohabit.runtime.requests import ResponseStream
from cohabit.schemas.transcription import Transcription, TranscriptionRequest, TranslationRequest, srt, vtt

_Written = tuple[str, Callable[[dict[str, Any]], str]]
_AS_TEXT: Mapping[str, _Written] = MappingProxyType(
    {
        "text": ("text/plain", lambda whole: whole["text"] + "\n"),
        "srt": ("application/x-subrip", lambda whole: srt(whole["segments"])),
        "vtt": ("text/vtt", lambda whole: vtt(whole["segments"])),
    }
)
"""Formats that are no JSON, and how they are made of ``verbose_json``."""
_TEXT: Responses = {
    200: {
        "model": Transcription,
        "description": "What was said, in the format that was asked for.",
        "content": {kind: {"schema": {"type": "string"}} for kind, _ in _AS_TEXT.values()},
    }
}
_STREAMED: Responses = {200: {**_TEXT[200], "content": {**_TEXT[200]["content"], "text/event-stream": {}}}}
router = Router("audio", {**_TEXT, **ERRORS})


@router.post("/v1/audio/transcriptions", form=TranscriptionRequest, responses=_STREAMED)
async def transcribe(request: Request) -> Response:
    """Write down what was said, at once or as it is heard."""
    fields, data = await read_form(request)
    validated = validate_form(TranscriptionRequest, fields)
    body = validated.body
    _check(body)
    service = service_of(request)
    info = choose(service, body.model, Task.TRANSCRIBE)
    validated.choose(info, Task.TRANSCRIBE)
    require(service, info, Task.TRANSCRIBE, _needed(body))
    answer = await _submit(request, info.name, {**body.engine_parameters(), **validated.parameters}, data)
    if body.stream:
        return events(request, answer, validated.warning, TypedEventStream)
    return await _respond(request, answer, body.response_format, body.timestamp_granularities, validated.warning)


@router.post("/v1/audio/translations", form=TranslationRequest)
async def translate(request: Request) -> Response:
    """Write down in English what was said in any language."""
    fields, data = await read_form(request)
    validated = validate_form(TranslationRequest, fields)
    body = validated.body
    service = service_of(request)
    info = choose(service, body.model, Task.TRANSCRIBE)
    validated.choose(info, Task.TRANSCRIBE)
    require(service, info, Task.TRANSCRIBE, {"model": Capability.TRANSLATE})
    answer = await _submit(request, info.name, {**body.engine_parameters(), **validated.parameters}, data)
    return await _respond(request, answer, body.response_format, warning=validated.warning)


def _check(body: TranscriptionRequest) -> None:
    if body.timestamp_granularities and body.response_format != "verbose_json":
        raise BadRequest(
            "timestamp_granularities needs response_format verbose_json", param="timestamp_granularities"
        )
    if body.stream and body.response_format not in ("json", "text"):
        raise BadRequest("stream needs response_format json or text", param="stream")
    if body.include and body.response_format != "json":
        raise BadRequest("include needs response_format json", param="include")


def _needed(body: TranscriptionRequest) -> dict[str, Capability]:
    needed = {}
    if "word" in (body.timestamp_granularities or []):
        needed["timestamp_granularities"] = Capability.WORD_TIMES
    if body.include:
        needed["include"] = Capability.LOGPROBS
    return needed


async def _submit(request: Request, model: str, words: dict[str, Any], data: bytes) -> ResponseStream:
    """The answer to come. Raises ApiError, ClientDisconnect."""
    sound = await attended(request, media_of(request).sound(data, "file"))
    return submit(request, model, Task.TRANSCRIBE, msgspec.json.encode(words), blobs={"file": sound})


async def _respond(
    request: Request,
    answer: ResponseStream,
    form: str,
    times: Sequence[str] | None = None,
    warning: str | None = None,
) -> Response:
    """``verbose_json`` in the format that was asked for."""
    raw = await collect(request, answer)
    if raw is None:
        return Response(status_code=CLIENT_GONE)
    headers = timings(answer, run=True, warning=warning)
    whole: dict[str, Any] = msgspec.json.decode(raw)
    if form in _AS_TEXT:
        media_type, written = _AS_TEXT[form]
        return Response(written(whole), media_type=f"{media_type}; charset=utf-8", headers=headers)
    usage = {"type": "duration", "seconds": whole["duration"]}
    if form == "json":
        whole = {"text": whole["text"]}
    elif times == ["word"]:
        del whole["segments"]
    return Response(msgspec.json.encode({**whole, "usage": usage}), media_type="application/json", headers=headers)
