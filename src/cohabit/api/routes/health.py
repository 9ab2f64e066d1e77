"""Is it alive, is there progress, what are the figures."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from cohabit.api.context import service_of
from cohabit.api.errors import ApiError
from cohabit.api.openapi import only
from cohabit.api.routes.status import Status
from cohabit.api.routing import Responses, Router, json_response, query_of
from cohabit.core.snapshot import LISTED, MAX_LISTED

router = Router("health", only())


class StatusQuery(msgspec.Struct):
    limit: Annotated[
        int,
        Meta(
            ge=0,
            le=MAX_LISTED,
            description="Requests that are listed of each model: the next ones that wait, and as many that run.",
        ),
    ] = LISTED


class Alive(Struct):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(Alive, kw_only=True):
    """Requests make progress."""

    detail: str


@router.get("/health/live", answer=Alive)
async def live(_request: Request) -> Response:
    """The process answers."""
    return json_response(Alive())


@router.get("/health/ready", answer=Ready, responses=only(503))
async def ready(request: Request) -> Response:
    """Requests make progress. 200 with nothing loaded; also with nothing to do; 503 when nothing goes on."""
    health = service_of(request).health()
    if not health.ready:
        raise ApiError(503, health.detail, kind="server_error", code="not_ready", retry_after=5.0)
    return json_response(Ready(detail=health.detail))


_TEXT: Responses = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


@router.get("/metrics", responses=_TEXT)
async def metrics(request: Request) -> Response:
    """Prometheus text format."""
    return Response(service_of(request).metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/admin/status", answer=Status, query=StatusQuery)
async def status(request: Request) -> Response:
    """Who holds the memory and why, who waits and for what; the field ``schema`` is its version."""
    limit = query_of(request, StatusQuery).limit
    return Response(msgspec.json.encode(service_of(request).status(limit)), media_type="application/json")
