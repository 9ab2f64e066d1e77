"""``/v1/chat/completions`` and ``/v1/completions``."""

from fastapi import APIRouter, Request, Response

from cohabit.api import pictures
from cohabit.api.answers import plain, submit
from cohabit.api.bodies import bounded, read, validated
from cohabit.api.documents import ERRORS, body_of, streamed
from cohabit.api.models import choose, service_of
from cohabit.api.routes import Direct
from cohabit.api.streams import events
from cohabit.openai.answers import ChatAnswer, CompletionAnswer
from cohabit.openai.chat import ChatRequest, Sampling
from cohabit.openai.completion import CompletionRequest
from cohabit.protocol.tasks import Task
from cohabit.runtime.service import ModelInfo

router = APIRouter(route_class=Direct, tags=["text"], responses=ERRORS)


@router.post("/v1/chat/completions", openapi_extra=body_of(ChatRequest), responses=streamed(ChatAnswer))
async def chat(request: Request) -> Response:
    """Answer a conversation, at once or as a stream."""
    raw = await read(request)
    body = validated(ChatRequest, raw)
    info = _chosen(request, body, Task.CHAT, "messages")
    await pictures.check(service_of(request), info, body)
    return await _answer(request, info, body, raw, Task.CHAT)


@router.post("/v1/completions", openapi_extra=body_of(CompletionRequest), responses=streamed(CompletionAnswer))
async def complete(request: Request) -> Response:
    """Go on with a text, at once or as a stream."""
    raw = await read(request)
    body = validated(CompletionRequest, raw)
    info = _chosen(request, body, Task.COMPLETE, "prompt")
    return await _answer(request, info, body, raw, Task.COMPLETE)


def _chosen(request: Request, body: Sampling, task: Task, param: str) -> ModelInfo:
    info = choose(service_of(request), body.model, task)
    bounded(body.text_bytes(), param)
    return info


async def _answer(request: Request, info: ModelInfo, body: Sampling, raw: bytes, task: Task) -> Response:
    answer = submit(request, info.name, task, raw)
    return await (events(request, answer) if body.stream else plain(request, answer))
