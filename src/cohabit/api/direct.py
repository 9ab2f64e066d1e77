"""Routes whose handlers do everything themselves."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

Handler = Callable[[Request], Awaitable[Response]]


class Direct(APIRoute):
    """A route whose handler takes the request alone and gives the response: ``APIRouter(route_class=Direct)``.

    FastAPI documents it like any other, and does nothing between: the parameters it would look for, the exit stack
    it would keep and the second net for exceptions cost more than all that such a handler does with a request.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **how: Any) -> None:
        """As APIRoute's."""
        super().__init__(path, endpoint, **how)
        handler = cast("Handler", endpoint)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            response = await handler(Request(scope, receive, send))
            await response(scope, receive, send)

        self.app = app
