"""A line is asked as any client would ask it: through the app, with all that it checks, only not through a socket."""

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Scope


@dataclass(frozen=True, slots=True)
class AppResponse:
    """What the app answered."""

    status: int
    request_id: str
    retry_after: float  # seconds; 0 where it does not say
    body: bytes
    warning: str | None = None  # what of it was ignored
    final: bool = False  # the same request is not to be sent again


class AsgiClient:
    """Asks an app in this process."""

    def __init__(self, app: ASGIApp) -> None:
        """The whole app, its middleware included."""
        self._app = app

    async def post(
        self, url: str, body: bytes, *, client: str, seconds: float, state: Mapping[str, Any]
    ) -> AppResponse:
        """POST ``body``. ``seconds`` is how long it may take; ``state`` is what the app finds in its scope's state.

        Cancelling this cancels the request as a client does who hangs up.
        """
        parts = bytearray()
        start: Message = {"status": 500, "headers": []}
        sent = False

        async def receive() -> Message:
            nonlocal sent
            if sent:
                await asyncio.Future()  # nobody hangs up
            sent = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
            else:
                parts.extend(message.get("body", b""))

        await self._app(_scope(url, client, seconds, state), receive, send)
        headers = Headers(raw=list(start["headers"]))
        wait = headers.get("retry-after", "")
        return AppResponse(
            start["status"],
            headers.get("x-request-id", ""),
            float(wait) if wait.isdecimal() else 0.0,
            bytes(parts),
            warning=headers.get("x-cohabit-warning"),
            final=headers.get("x-should-retry") == "false",
        )


def _scope(url: str, client: str, seconds: float, state: Mapping[str, Any]) -> Scope:
    whole = max(1, math.ceil(min(seconds, 999_999_999)))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": url,
        "raw_path": url.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"x-request-timeout", b"%d" % whole)],
        "client": (client, 0),
        "server": None,
        "state": dict(state),
    }
