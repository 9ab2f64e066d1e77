"""Server-sent events: chunks as they come, errors as events, comments while a model is brought in."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import structlog
from fastapi import Request, Response
from starlette.types import Receive, Scope, Send

from cohabit.api.answers import timings
from cohabit.api.connections import drop
from cohabit.api.disconnects import CLIENT_GONE, Watch
from cohabit.api.errors import Refused
from cohabit.runtime.requests import Answer, CallFailed

log = structlog.get_logger()

_WAITING = b": waiting\n\n"
_DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """When a stream does something because nothing happens; seconds."""

    commit_after: float = 2.0  # until then it may still fail with a status of its own
    comment_every: float = 5.0  # after the first comment, which comes as it is committed
    stall_timeout: float = 60.0  # a client that reads nothing for so long is cut off


PACE = Pace()


class EventStream(Response):
    """Sends an answer's chunks as ``data:`` events, then ``[DONE]``; a failure is an event and the end."""

    media_type = "text/event-stream"

    def __init__(self, answer: Answer, headers: Mapping[str, str], pace: Pace) -> None:
        """``headers`` besides those of every event stream."""
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
        self._pace = pace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak ASGI."""
        with Watch(receive, self._answer, when_gone=self._answer.complete) as watch:
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._send_all(send, watch)
            except TimeoutError:
                log.info("client read nothing and was cut off", seconds=self._pace.stall_timeout)
                self._answer.cancel()
                await drop(scope, receive)

    async def _send_all(self, send: Send, watch: Watch) -> None:
        """Raises TimeoutError once the client has read nothing for too long."""

        async def push(data: bytes, *, more: bool = True) -> None:
            async with asyncio.timeout(self._pace.stall_timeout):
                await send({"type": "http.response.body", "body": data, "more_body": more})

        try:
            quiet = 0.0  # at once: who has waited until the stream was committed should hear something
            while not await self._answer.started(quiet):
                await push(_WAITING)
                quiet = self._pace.comment_every
            while chunks := await self._answer.some():
                await push(b"".join([b"data: %b\n\n" % chunk for chunk in chunks]))
        except CallFailed as failure:
            error = msgspec.json.encode(Refused(failure).body)
            await push(b"data: %b\n\n" % error, more=False)
            return
        if not watch.gone:
            await push(_DONE, more=False)


async def events(request: Request, answer: Answer) -> Response:
    """A stream that has begun, or that has waited so long that the client should hear something.

    Raises CallFailed if it fails before.
    """
    pace: Pace = request.app.state.pace
    with Watch(request.receive, answer, when_gone=answer.complete) as watch:
        started = await answer.started(pace.commit_after)
    if watch.gone:
        return Response(status_code=CLIENT_GONE)
    if started:
        answer.raise_early()
    return EventStream(answer, timings(answer, run=False), pace)
