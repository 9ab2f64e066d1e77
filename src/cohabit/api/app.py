"""The app: routes, errors, middleware put together."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp

from cohabit.api import errors, openapi
from cohabit.api.middleware.allowed_hosts import ANYBODY, Cors, Known, Origins
from cohabit.api.middleware.auth import Access, Lock
from cohabit.api.middleware.request_guard import Door
from cohabit.api.middleware.request_log import RequestLog
from cohabit.api.middleware.turns import Turns
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
from cohabit.api.streams import PACE, Pace
from cohabit.observability.feed import Feed
from cohabit.runtime.service import Service

if TYPE_CHECKING:
    from cohabit.api.media.media_fetch import RemoteMedia
    from cohabit.batches.store import Store


class App(FastAPI):
    """FastAPI with only what is used of what it puts round every request.

    RequestLog has the last word on exceptions, and of the body limit and the telemetry that FastAPI adds neither
    would do anything here, each at the price of a call for every request and of one more for every chunk.
    """

    def build_middleware_stack(self) -> ASGIApp:
        """Starlette's way to say what goes round the router."""
        app: ASGIApp = AsyncExitStackMiddleware(self.router)  # routes that are not Direct need it
        app = ExceptionMiddleware(app, handlers=self.exception_handlers)
        if self.state.lock is not None:
            app = Access(app, self.state.lock)
        known: Known = self.state.known
        app = RequestLog(Turns(Origins(Door(app), known)))
        return Cors(app, known.origins) if known.origins else app


def create_app(
    service: Service,
    version: str = "0",
    *,
    feed: Feed | None = None,
    pace: Pace = PACE,
    remote: "RemoteMedia | None" = None,
    known: Known = ANYBODY,
    lock: Lock | None = None,
) -> App:
    """An app over a running service; without ``remote`` it fetches nothing, without ``lock`` it asks for no key."""
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
    app.state.pace = pace
    app.state.remote = remote
    app.state.known = known
    app.state.lock = lock
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


def keeps(app: App, opening: "Awaitable[Store]") -> None:
    """From now on the app has a store of files and batches, which may still have to be opened.

    Not an argument of ``create_app``, since a store runs its batches through the app.
    """
    app.state.store = opening
