"""``/inference``: one route for every task."""

from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from cohabit.api.answers import collect, submit, timings
from cohabit.api.bodies import decoded, parsed, read, validated
from cohabit.api.chat import bounded, refuse_image
from cohabit.api.disconnects import CLIENT_GONE
from cohabit.api.documents import ERRORS, Responses, body_of
from cohabit.api.errors import BadRequest
from cohabit.api.models import choose, service_of
from cohabit.openai.chat import ChatRequest
from cohabit.openai.embedding import EmbeddingRequest
from cohabit.openai.inference import ChatData, ChatResult, EmbedData, EmbedResult, InferenceRequest
from cohabit.protocol.tasks import Task

_RESULT: Responses = {200: {"model": ChatResult | EmbedResult}}
router = APIRouter(tags=["inference"], responses={**_RESULT, **ERRORS})


@router.post("/inference", openapi_extra=body_of(InferenceRequest))
async def inference(request: Request, request_type: str | None = None) -> Response:
    """Chat or embed. With ``?request_type=`` the body is the data alone."""
    raw = await read(request)
    if request_type is not None:
        asked = parsed(InferenceRequest, {"type": request_type, "data": _object(decoded(raw))})
    else:
        asked = validated(InferenceRequest, raw)
    task, body, param = _chat(asked) if asked.type == "chat" else _embed(asked)
    info = choose(service_of(request), asked.model, task)
    body["model"] = info.name
    typed = parsed(ChatRequest if task is Task.CHAT else EmbeddingRequest, body, prefix="data.")
    bounded(typed.text_bytes(), param)
    if isinstance(typed, ChatRequest) and typed.has_image():
        refuse_image(service_of(request), info.name)
    answer = submit(request, info.name, task, msgspec.json.encode(body))
    data = await collect(request, answer)
    if data is None:
        return Response(status_code=CLIENT_GONE)
    result = _chat_result(data) if task is Task.CHAT else _embed_result(data)
    return Response(msgspec.json.encode(result), media_type="application/json", headers=timings(answer, run=True))


def _object(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise BadRequest("the body must be a JSON object")
    return found


def _chat(asked: InferenceRequest) -> tuple[Task, dict[str, Any], str]:
    data = parsed(ChatData, asked.data, prefix="data.")
    if (data.prompt is None) == (data.messages is None):
        raise BadRequest("data needs either prompt or messages", param="data")
    body = dict(asked.data)
    if data.prompt is not None:
        del body["prompt"]
        body["messages"] = [{"role": "user", "content": data.prompt}]
    return Task.CHAT, body, "data.prompt" if data.prompt is not None else "data.messages"


def _embed(asked: InferenceRequest) -> tuple[Task, dict[str, Any], str]:
    data = parsed(EmbedData, asked.data, prefix="data.")
    if (data.text is None) == (data.texts is None):
        raise BadRequest("data needs either text or texts", param="data")
    return Task.EMBED, {"input": data.text or data.texts}, "data.text" if data.text else "data.texts"


def _chat_result(data: bytes) -> dict[str, Any]:
    answer = msgspec.json.decode(data)
    choice = answer["choices"][0]
    return {
        "text": choice["message"]["content"],
        "finish_reason": choice["finish_reason"],
        "usage": answer["usage"],
    }


def _embed_result(data: bytes) -> dict[str, Any]:
    return {"embeddings": [entry["embedding"] for entry in msgspec.json.decode(data)["data"]]}
