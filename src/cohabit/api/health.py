"""Is it alive, is there progress, what are the figures."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from cohabit.api.documents import Responses, only
from cohabit.api.errors import ApiError
from cohabit.api.models import service_of

router = APIRouter(tags=["health"], responses=only(500))


@router.get("/health/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/health/ready", responses=only(503))
async def ready(request: Request) -> JSONResponse:
    """Requests make progress. 200 with nothing loaded; 503 when what could be served is not."""
    health = service_of(request).health()
    if not health.ready:
        raise ApiError(503, health.detail, kind="server_error", code="not_ready", retry_after=5.0)
    return JSONResponse({"status": "ok", "detail": health.detail})


_TEXT: Responses = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


@router.get("/metrics", response_class=Response, responses=_TEXT)
async def metrics(request: Request) -> Response:
    """Prometheus text format."""
    return Response(service_of(request).metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/admin/status")
async def status(request: Request) -> dict[str, Any]:
    """Who holds the memory and why, who waits and for what; the field ``schema`` is its version."""
    return service_of(request).status()
