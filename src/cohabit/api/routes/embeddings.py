"""``/v1/embeddings``."""

from starlette.requests import Request
from starlette.responses import Response

from cohabit.api.bodies import check_size
from cohabit.api.context import service_of
from cohabit.api.fields import read_fields
from cohabit.api.model_support import require
from cohabit.api.openapi import ERRORS
from cohabit.api.routes.models import choose
from cohabit.api.routing import Router
from cohabit.api.submission import plain, submit
from cohabit.protocol.tasks import Capability, Task
from cohabit.runtime.requests import ResponseFailed
from cohabit.schemas.embedding import EmbeddingAnswer, EmbeddingRequest

_CANNOT_SHORTEN = ("dimensions", "unsupported_parameter")
router = Router("embeddings", ERRORS)


@router.post("/v1/embeddings", body=EmbeddingRequest, answer=EmbeddingAnswer)
async def embed(request: Request) -> Response:
    """Turn texts into vectors."""
    validated = await read_fields(EmbeddingRequest, request)
    service = service_of(request)
    info = choose(service, validated.body.model, Task.EMBED)
    validated.choose(info, Task.EMBED)
    check_size(validated.text_bytes, "input")
    answer = submit(request, info.name, Task.EMBED, await validated.sent())
    try:
        return await plain(request, answer, validated.warning)
    except ResponseFailed as failure:
        # Only the engine knows how long its vectors are, and only here is it known who could shorten theirs.
        if failure.error is not None and (failure.error.param, failure.error.code) == _CANNOT_SHORTEN:
            require(service, info, Task.EMBED, {"dimensions": Capability.SHORTEN})
        raise
