"""``/v1/chat/completions`` and ``/v1/completions``."""

from fastapi import APIRouter, Request, Response

from cohabit.api.answers import plain, submit
from cohabit.api.bodies import MOST_TEXT, read, validated
from cohabit.api.documents import ERRORS, STREAMED, body_of
from cohabit.api.errors import BadRequest
from cohabit.api.models import choose, service_of
from cohabit.api.streams import events
from cohabit.openai.chat import ChatRequest, Sampling
from cohabit.openai.completion import CompletionRequest
from cohabit.protocol.tasks import Task
from cohabit.runtime.service import Service

router = APIRouter(tags=["text"], responses={**STREAMED, **ERRORS})


@router.post("/v1/chat/completions", openapi_extra=body_of(ChatRequest))
async def chat(request: Request) -> Response:
    """Answer a conversation, at once or as a stream."""
    raw = await read(request)
    body = validated(ChatRequest, raw)
    if body.has_image():
        refuse_image(service_of(request), body.model)
    return await _answer(request, body, raw, Task.CHAT, "messages")


@router.post("/v1/completions", openapi_extra=body_of(CompletionRequest))
async def complete(request: Request) -> Response:
    """Go on with a text, at once or as a stream."""
    raw = await read(request)
    return await _answer(request, validated(CompletionRequest, raw), raw, Task.COMPLETE, "prompt")


def refuse_image(service: Service, name: str) -> None:
    """A picture for a model that cannot see. Raises BadRequest naming those that can."""
    info = choose(service, name, Task.CHAT)
    if Task.DESCRIBE in info.tasks:
        return
    seeing = [other.name for other in service.models.values() if Task.DESCRIBE in other.tasks]
    can = f"models that can: {', '.join(seeing)}" if seeing else "no configured model can"
    raise BadRequest(f"{info.name} cannot see pictures; {can}", param="messages", code="unsupported_content")


def bounded(size: int, param: str) -> None:
    """Raises BadRequest for more text than any model takes."""
    if size > MOST_TEXT:
        raise BadRequest(
            f"the request holds {size} bytes of text and at most {MOST_TEXT} are taken; shorten it",
            param=param,
            code="context_length_exceeded",
        )


async def _answer(request: Request, body: Sampling, raw: bytes, task: Task, param: str) -> Response:
    info = choose(service_of(request), body.model, task)
    bounded(body.text_bytes(), param)
    answer = submit(request, info.name, task, raw)
    return await (events(request, answer) if body.stream else plain(request, answer))
