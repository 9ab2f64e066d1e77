"""The app: routes, errors, middleware put together."""

from collections.abc import Awaitable
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.types import ASGIApp

from cohabit.api import errors
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

_MODULES = (  # they are tried in this order: what is short and frequent first
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
)


class App(Starlette):
    """Starlette without its outermost middleware: RequestLog answers exceptions that nobody expected."""

    def build_middleware_stack(self) -> ASGIApp:
        """Starlette's way to say what goes round the router."""
        app: ASGIApp = ExceptionMiddleware(self.router, handlers=dict.fromkeys(errors.HANDLED, errors.handle))
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
    app = App(routes=[route for module in _MODULES for route in module.router.routes])
    app.state.version = version
    app.state.document = None  # until somebody wants it
    app.state.service = service
    app.state.feed = feed or Feed()
    app.state.timeouts = timeouts
    app.state.remote = remote
    app.state.allowed_hosts = allowed_hosts
    app.state.auth = auth
    app.state.store = None  # until ``keeps``
    return app


def keeps(app: App, opening: "Awaitable[BatchStore]") -> None:
    """From now on the app has a store of files and batches, which may still have to be opened.

    Not an argument of ``create_app``, since a store runs its batches through the app.
    """
    app.state.store = opening
