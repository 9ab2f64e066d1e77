"""``/v1/chat/completions`` and ``/v1/completions``."""

from fastapi import APIRouter, Request, Response

from cohabit.api import pictures, wishes
from cohabit.api.addresses import fetcher_of
from cohabit.api.answers import plain, submit
from cohabit.api.bodies import bounded, decoded, encoded, read, validated
from cohabit.api.documents import ERRORS, body_of, streamed
from cohabit.api.models import choose, service_of
from cohabit.api.routes import Direct
from cohabit.api.streams import events
from cohabit.openai.answers import ChatAnswer, CompletionAnswer
from cohabit.openai.chat import ChatRequest, Sampling
from cohabit.openai.completion import CompletionRequest
from cohabit.protocol.tasks import Task
from cohabit.runtime.requests import Answer
from cohabit.runtime.service import ModelInfo

router = APIRouter(route_class=Direct, tags=["text"], responses=ERRORS)


@router.post("/v1/chat/completions", openapi_extra=body_of(ChatRequest), responses=streamed(ChatAnswer))
async def chat(request: Request) -> Response:
    """Answer a conversation, at once or as a stream."""
    raw = await read(request)
    body = validated(ChatRequest, raw)
    info, warning = _understood(request, body, Task.CHAT, "messages")
    urls = await pictures.check(service_of(request), fetcher_of(request), info, body.pictures(), "messages")
    if urls:
        whole = decoded(raw)
        pictures.put(whole, urls)
        raw = encoded(whole)
    return await _told(request, body, submit(request, info.name, Task.CHAT, raw), warning)


@router.post("/v1/completions", openapi_extra=body_of(CompletionRequest), responses=streamed(CompletionAnswer))
async def complete(request: Request) -> Response:
    """Go on with a text, at once or as a stream."""
    raw = await read(request)
    body = validated(CompletionRequest, raw)
    info, warning = _understood(request, body, Task.COMPLETE, "prompt")
    return await _told(request, body, submit(request, info.name, Task.COMPLETE, raw), warning)


def _understood(request: Request, body: Sampling, task: Task, param: str) -> tuple[ModelInfo, str | None]:
    """Which model, and what the client should know of its request. Raises ApiError."""
    info = choose(service_of(request), body.model, task)
    bounded(body.text_bytes(), param)
    return info, wishes.check(service_of(request), info, task, body)


async def _told(request: Request, body: Sampling, answer: Answer, warning: str | None) -> Response:
    return await (events(request, answer, warning) if body.stream else plain(request, answer, warning))
