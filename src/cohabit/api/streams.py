"""Server-sent events: chunks as they come, errors as events, comments while a model is brought in."""

import asyncio
from collections.abc import Mapping

import msgspec
import structlog
from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from cohabit.api.answers import CLIENT_GONE, timings
from cohabit.api.disconnects import Watch
from cohabit.api.errors import Refused
from cohabit.runtime.requests import Answer, CallFailed

log = structlog.get_logger()

COMMIT_AFTER = 2.0  # seconds a stream may still fail with a status of its own
COMMENT_EVERY = 5.0  # seconds between comments while nothing comes
STALL_TIMEOUT = 60.0  # seconds a client may read nothing before it is cut off

_WAITING = b": waiting\n\n"
_DONE = b"data: [DONE]\n\n"


class EventStream(Response):
    """Sends an answer's chunks as ``data:`` events, then ``[DONE]``; a failure is an event and the end."""

    media_type = "text/event-stream"

    def __init__(self, answer: Answer, headers: Mapping[str, str], *, stall_timeout: float = STALL_TIMEOUT) -> None:
        """``stall_timeout`` in seconds."""
        super().__init__(
            headers={
                "content-type": "text/event-stream; charset=utf-8",
                "cache-control": "no-cache",
                "x-accel-buffering": "no",
                **headers,
            }
        )
        del self.headers["content-length"]
        self._answer = answer
        self._stall_timeout = stall_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak ASGI."""
        answer = self._answer

        async def push(data: bytes, *, more: bool = True) -> None:
            async with asyncio.timeout(self._stall_timeout):
                await send({"type": "http.response.body", "body": data, "more_body": more})

        with Watch(receive, answer, when_gone=answer.complete) as watch:
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                while not await answer.started(COMMENT_EVERY):
                    await push(_WAITING)
                while chunks := await answer.some():
                    await push(b"".join([b"data: %b\n\n" % chunk for chunk in chunks]))
                if not watch.gone:
                    await push(_DONE, more=False)
            except CallFailed as failure:
                error = msgspec.json.encode(Refused(failure).body)
                await push(b"data: %b\n\n" % error, more=False)
            except TimeoutError:
                # The connection is left without its end, so that the client cannot take it for a whole answer.
                log.info("client read nothing and was cut off", seconds=self._stall_timeout)
                answer.cancel()


async def events(request: Request, answer: Answer, *, commit_after: float = COMMIT_AFTER) -> Response:
    """A stream that has begun, or that has waited so long that the client should hear something.

    Raises CallFailed if it fails before.
    """
    with Watch(request.receive, answer, when_gone=answer.complete) as watch:
        started = await answer.started(commit_after)
    if watch.gone:
        return Response(status_code=CLIENT_GONE)
    if started:
        answer.raise_early()
    return EventStream(answer, timings(answer, run=False))
