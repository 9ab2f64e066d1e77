"""``/v1/audio/transcriptions``."""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from cohabit.api.answers import collect, submit, timings
from cohabit.api.bodies import parsed
from cohabit.api.disconnects import CLIENT_GONE
from cohabit.api.documents import ERRORS, Responses, form_of
from cohabit.api.errors import BadRequest
from cohabit.api.models import choose, service_of
from cohabit.api.routes import Direct
from cohabit.api.uploads import examine_sound, read_form
from cohabit.openai.transcription import Transcription, TranscriptionRequest
from cohabit.protocol.tasks import Task

_TEXT: Responses = {
    200: {"model": Transcription, "content": {"text/plain": {"schema": {"type": "string"}}}},
}
router = APIRouter(route_class=Direct, tags=["audio"], responses={**_TEXT, **ERRORS})


@router.post("/v1/audio/transcriptions", openapi_extra=form_of(TranscriptionRequest))
async def transcribe(request: Request) -> Response:
    """Write down what was said."""
    fields, data = await read_form(request)
    asked = parsed(TranscriptionRequest, fields)
    if asked.timestamp_granularities and asked.response_format != "verbose_json":
        raise BadRequest(
            "timestamp_granularities needs response_format verbose_json", param="timestamp_granularities"
        )
    info = choose(service_of(request), asked.model, Task.TRANSCRIBE)
    await examine_sound(data, "file")
    body = msgspec.json.encode(asked.words())
    answer = submit(request, info.name, Task.TRANSCRIBE, body, blobs={"file": data})
    found = await collect(request, answer)
    if found is None:
        return Response(status_code=CLIENT_GONE)
    headers = timings(answer, run=True)
    whole: dict[str, Any] = msgspec.json.decode(found)
    match asked.response_format:
        case "text":
            return Response(whole["text"] + "\n", media_type="text/plain; charset=utf-8", headers=headers)
        case "json":
            whole = {"text": whole["text"]}
        case "verbose_json" if asked.timestamp_granularities == ["word"]:
            del whole["segments"]
        case _:
            pass
    return Response(msgspec.json.encode(whole), media_type="application/json", headers=headers)
