"""``/v1/embeddings``."""

from fastapi import APIRouter, Request, Response

from cohabit.api.answers import plain, submit
from cohabit.api.bodies import bounded, read, validated
from cohabit.api.documents import ERRORS, Responses, body_of
from cohabit.api.models import choose, service_of
from cohabit.api.routes import Direct
from cohabit.openai.embedding import EmbeddingAnswer, EmbeddingRequest
from cohabit.protocol.tasks import Task

_VECTORS: Responses = {200: {"model": EmbeddingAnswer}}
router = APIRouter(route_class=Direct, tags=["embeddings"], responses={**_VECTORS, **ERRORS})


@router.post("/v1/embeddings", openapi_extra=body_of(EmbeddingRequest))
async def embed(request: Request) -> Response:
    """Turn texts into vectors."""
    raw = await read(request)
    body = validated(EmbeddingRequest, raw)
    info = choose(service_of(request), body.model, Task.EMBED)
    bounded(body.text_bytes(), "input")
    return await plain(request, submit(request, info.name, Task.EMBED, raw))
