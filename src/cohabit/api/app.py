"""The app: routes, errors, middleware put together."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp

from cohabit.api import errors, openapi
from cohabit.api.media.media_inputs import Remote
from cohabit.api.middleware.allowed_hosts import ANY_HOST, AllowedHosts, AllowedHostsMiddleware, Cors
from cohabit.api.middleware.auth import AuthConfig, Authentication
from cohabit.api.middleware.request_guard import RequestGuard
from cohabit.api.middleware.request_log import RequestLog
from cohabit.api.routes import (
    admin,
    batch,
    batches,
    chat,
    embeddings,
    files,
    health,
    inference,
    models,
    rerank,
    responses,
    speech,
    swagger,
    transcriptions,
)
from cohabit.api.streams import STREAM_TIMEOUTS, StreamTimeouts
from cohabit.observability.feed import Feed
from cohabit.runtime.service import Service

if TYPE_CHECKING:
    from cohabit.batches.store import BatchStore


class App(FastAPI):
    """FastAPI with only what is used of what it puts round every request.

    RequestLog has the last word on exceptions, and of the body limit and the telemetry that FastAPI adds neither
    would do anything here, each at the price of a call for every request and of one more for every chunk.
    """

    def build_middleware_stack(self) -> ASGIApp:
        """Starlette's way to say what goes round the router."""
        app: ASGIApp = AsyncExitStackMiddleware(self.router)  # routes that are not Direct need it
        app = ExceptionMiddleware(app, handlers=self.exception_handlers)
        if self.state.auth is not None:
            app = Authentication(app, self.state.auth)
        allowed_hosts: AllowedHosts = self.state.allowed_hosts
        app = RequestLog(AllowedHostsMiddleware(RequestGuard(app), allowed_hosts))
        return Cors(app, allowed_hosts.origins) if allowed_hosts.origins else app


def create_app(
    service: Service,
    version: str = "0",
    *,
    feed: Feed | None = None,
    timeouts: StreamTimeouts = STREAM_TIMEOUTS,
    remote: Remote | None = None,
    allowed_hosts: AllowedHosts = ANY_HOST,
    auth: AuthConfig | None = None,
) -> App:
    """An app over a running service; without ``remote`` it fetches nothing, without ``auth`` it asks for no key."""
    app = App(
        title="cohabit",
        version=version,
        description="Many AI models on one GPU behind one OpenAI-compatible server.",
        docs_url=None,  # FastAPI's pages load scripts from elsewhere; see docs.py
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.service = service
    app.state.feed = feed or Feed()
    app.state.timeouts = timeouts
    app.state.remote = remote
    app.state.allowed_hosts = allowed_hosts
    app.state.auth = auth
    app.state.store = None  # until ``keeps``
    for module in (  # they are tried in this order: what is short and frequent first
        embeddings,
        chat,
        responses,
        rerank,
        speech,
        transcriptions,
        models,
        inference,
        batch,
        files,
        batches,
        health,
        admin,
        swagger,
    ):
        app.router.routes += module.router.routes  # included, each would be looked for through its router
    errors.install(app)
    openapi.install(app)
    return app


def keeps(app: App, opening: "Awaitable[BatchStore]") -> None:
    """From now on the app has a store of files and batches, which may still have to be opened.

    Not an argument of ``create_app``, since a store runs its batches through the app.
    """
    app.state.store = opening
