"""``/v1/chat/completions`` and ``/v1/completions``."""

from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from cohabit.api import model_support
from cohabit.api.bodies import check_size
from cohabit.api.context import service_of
from cohabit.api.fields import ValidatedBody, read_fields, warnings
from cohabit.api.media.media_inputs import attended, check_pictures, media_of, put_pictures
from cohabit.api.openapi import ERRORS, streamed
from cohabit.api.routes.models import choose
from cohabit.api.routing import Router
from cohabit.api.streams import events
from cohabit.api.submission import plain, submit
from cohabit.protocol.tasks import Task
from cohabit.runtime.requests import ResponseStream
from cohabit.runtime.service import MAX_TEXT, ModelInfo
from cohabit.schemas.answers import ChatAnswer, CompletionAnswer
from cohabit.schemas.chat import ChatRequest, CompletionRequest, Sampling

S = TypeVar("S", bound=Sampling)

router = Router("text", ERRORS)


@router.post("/v1/chat/completions", body=ChatRequest, responses=streamed(ChatAnswer))
async def chat(request: Request) -> Response:
    """Answer a conversation, at once or as a stream."""
    validated = await read_fields(ChatRequest, request)
    info, warning = _prepare(request, validated, Task.CHAT, "messages")
    pictures = check_pictures(media_of(request), info, validated.body.pictures(), "messages")
    put_pictures(validated.plain, await attended(request, pictures))
    return await _respond(
        request, validated.body, submit(request, info.name, Task.CHAT, await validated.sent()), warning
    )


@router.post("/v1/completions", body=CompletionRequest, responses=streamed(CompletionAnswer))
async def complete(request: Request) -> Response:
    """Go on with a text, at once or as a stream."""
    validated = await read_fields(CompletionRequest, request)
    info, warning = _prepare(request, validated, Task.COMPLETE, "prompt")
    return await _respond(
        request, validated.body, submit(request, info.name, Task.COMPLETE, await validated.sent()), warning
    )


def _prepare(request: Request, validated: ValidatedBody[S], task: Task, param: str) -> tuple[ModelInfo, str | None]:
    """Which model, and what the client should know of its request. Raises ApiError."""
    info = choose(service_of(request), validated.body.model, task)
    validated.choose(info, task)
    check_size(validated.text_bytes, param, _most_text(info, validated.body))
    unsupported = model_support.check(service_of(request), info, task, validated.body, validated.without_effect)
    return info, warnings(unsupported, validated.warning)


def _most_text(info: ModelInfo, body: Sampling) -> int:
    """Bytes; several prompts each have the context to themselves."""
    several = len(body.prompt) if isinstance(body, CompletionRequest) and isinstance(body.prompt, list) else 1
    return max(info.max_text, min(MAX_TEXT, several * info.max_text))


async def _respond(request: Request, body: Sampling, answer: ResponseStream, warning: str | None) -> Response:
    return events(request, answer, warning) if body.stream else await plain(request, answer, warning)
