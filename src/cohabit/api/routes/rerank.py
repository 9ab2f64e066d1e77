"""``/v1/rerank``: with a model that reranks; where none is configured, by the vectors of an embedding model."""

import base64
import math
import struct
import uuid
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from cohabit.api.bodies import check_size
from cohabit.api.context import service_of
from cohabit.api.fields import read_fields, warnings
from cohabit.api.middleware.disconnects import CLIENT_GONE
from cohabit.api.openapi import ERRORS
from cohabit.api.routes.models import choose
from cohabit.api.routing import Router, json_response
from cohabit.api.submission import collect, submit, timings
from cohabit.protocol.tasks import Task
from cohabit.runtime.executors import PARSING
from cohabit.runtime.requests import ResponseFailed
from cohabit.runtime.service import Service
from cohabit.schemas.rerank import (
    Document,
    Ranked,
    RerankAnswer,
    RerankMeta,
    RerankRequest,
    RerankTokens,
    RerankUsage,
)

router = Router("embeddings", ERRORS)


@router.post("/v1/rerank", body=RerankRequest, answer=RerankAnswer)
async def rerank(request: Request) -> Response:
    """Put documents in order by how well they answer a query."""
    validated = await read_fields(RerankRequest, request)
    body = validated.body
    service = service_of(request)
    task = _task(service)
    info = choose(service, body.model, task, unnamed="model")
    validated.choose(info, task)
    check_size(validated.text_bytes, "documents")
    texts = body.texts()
    if task is Task.RERANK:
        fields, warning = {"query": body.query, "documents": texts}, None
    else:
        fields = {"input": [body.query, *texts], "encoding_format": "base64"}
        warning = f"no model that can rerank is configured; scores are from the distance of vectors of {info.name}"
    answer = submit(
        request, info.name, task, msgspec.json.encode({"model": info.name, **fields, **validated.parameters})
    )
    try:
        raw = await collect(request, answer)
    except ResponseFailed as failure:
        raise _with_our_field(failure) from None
    if raw is None:
        return Response(status_code=CLIENT_GONE)
    whole = msgspec.json.decode(raw)
    # Off the loop: a thousand long vectors take a tenth of a second.
    scores = _scores(whole) if task is Task.RERANK else await PARSING.run(_similarities, whole)
    tokens = whole["usage"]["total_tokens"]
    ranked = RerankAnswer(
        id=f"rerank-{uuid.uuid4().hex}",
        model=info.name,
        results=_best(scores, body, texts),
        usage=RerankUsage(prompt_tokens=tokens, total_tokens=tokens),
        meta=RerankMeta(tokens=RerankTokens(input_tokens=tokens), warnings=[warning] if warning else msgspec.UNSET),
    )
    response = json_response(ranked)
    response.headers.update(timings(answer, run=True, warning=warnings(warning, validated.warning)))
    return response


def _task(service: Service) -> Task:
    """What the models are asked for: to embed only where none reranks and some embed."""
    tasks = {task for info in service.models.values() for task in info.tasks}
    return Task.EMBED if Task.EMBED in tasks and Task.RERANK not in tasks else Task.RERANK


def _best(scores: Sequence[float], body: RerankRequest, texts: Sequence[str]) -> list[Ranked]:
    order = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.top_n]
    return [
        Ranked(
            index=index,
            relevance_score=scores[index],
            document=Document(text=texts[index]) if body.return_documents else msgspec.UNSET,
        )
        for index in order
    ]


def _scores(whole: dict[str, Any]) -> list[float]:
    """By document, as the model said."""
    scores = {result["index"]: float(result["relevance_score"]) for result in whole["results"]}
    return [scores[index] for index in range(len(scores))]


def _similarities(whole: dict[str, Any]) -> list[float]:
    """By document: the cosine of its vector and the query's, from [-1, 1] to [0, 1]."""
    query, *documents = (_vector(entry["embedding"]) for entry in whole["data"])
    return [(1 + _cosine(query, document)) / 2 for document in documents]


def _vector(packed: str) -> tuple[float, ...]:
    raw = base64.b64decode(packed)
    return struct.unpack(f"<{len(raw) // 4}f", raw)


def _cosine(left: Sequence[float], right: Sequence[float]) -> float:
    lengths = math.hypot(*left) * math.hypot(*right)
    product = math.fsum(a * b for a, b in zip(left, right, strict=True))
    return max(-1.0, min(1.0, product / lengths)) if lengths else 0.0


def _with_our_field(failure: ResponseFailed) -> ResponseFailed:
    """An embedding model speaks of its ``input``: the query, then the documents."""
    error = failure.error
    if error is None or error.param is None or not error.param.startswith("input."):
        return failure
    index = int(error.param.removeprefix("input."))
    place = f"documents.{index - 1}" if index else "query"
    message = error.message.replace(error.param, place, 1)
    return ResponseFailed(error=msgspec.structs.replace(error, param=place, message=message))
