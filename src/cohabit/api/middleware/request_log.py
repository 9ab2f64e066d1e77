"""Every request: its id, its last chance to have an error in our shape, one line in the log."""

import asyncio
import itertools
import re
import secrets
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cohabit.api.context import state_of
from cohabit.api.errors import Refused, unexpected
from cohabit.api.http.connections import drop
from cohabit.core.admission import SHUTTING_DOWN
from cohabit.runtime.requests import ResponseFailed

log = structlog.get_logger()

_SANE_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")
_OURS = secrets.token_hex(5).encode()  # no two servers, nor two runs of one, give the same ids
_QUIET = ("/health", "/metrics", "/admin/status")  # polled every few seconds; logged at debug


class RequestLog:
    """Keeps or makes ``x-request-id``, and writes one line when the answer has ended.

    The line has method, route, status, time and model: never what a client wrote, be it in a path, a prompt or
    a key. An exception ends here: further out it would be logged with its text.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._numbers = itertools.count()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given if _SANE_ID.fullmatch(given) else b"%b%06x" % (_OURS, next(self._numbers))
        state = state_of(scope)
        state["request_id"] = request_id.decode()
        status = 0
        method = scope["method"]
        if method == "HEAD":
            scope = {**scope, "method": "GET"}  # the server leaves the body out, by what stands in its own scope

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        try:
            await self._app(scope, receive, tagged)
        except asyncio.CancelledError:
            if "background" in state:
                raise  # the line of a batch, which ``batches.calls`` cancels
            # The server leaves and waits no longer. Passed on, this would become an error that is not in our shape.
            if status:
                await drop(scope, receive)
            else:
                await Refused(ResponseFailed(rejection=SHUTTING_DOWN)).response()(scope, receive, tagged)
        except Exception as error:
            answer = unexpected(error, state["request_id"])
            if status:
                await drop(scope, receive)
            else:
                await answer(scope, receive, tagged)
        finally:
            path = getattr(scope.get("route"), "path", "-")
            # The lines of a batch are many, and nobody's request of now.
            write = log.debug if path.startswith(_QUIET) or "background" in state else log.info
            write(
                "request",
                method=method,
                path=path,
                status=status,
                ms=round((time.perf_counter() - began) * 1000, 1),
                model=state.get("model"),
                id=state["request_id"],
                **({"key": state["key"].name} if "key" in state else {}),
            )
