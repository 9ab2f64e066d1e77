"""Answers that go out as they come: server-sent events, with comments while a model is brought in, and sound."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cohabit.api.errors import Refused
from cohabit.api.http.connections import drop
from cohabit.api.middleware.disconnects import CLIENT_GONE, Cancellable, Watch
from cohabit.api.submission import timings, warn
from cohabit.runtime.requests import ResponseFailed, ResponseStream

log = structlog.get_logger()

_WAITING = b": waiting\n\n"
_DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTimeouts:
    """When a stream does something because nothing happens; seconds."""

    commit_after: float = 2.0  # until then it may still fail with a status of its own
    comment_every: float = 5.0  # after the first comment, which comes as it is committed
    stall_timeout: float = 60.0  # a client that reads nothing for so long is cut off


STREAM_TIMEOUTS = StreamTimeouts()


class Stream(Response, ABC):
    """Sends what comes as it comes, and cancels it if its client leaves or reads nothing for too long."""

    def __init__(self, work: Cancellable, headers: Mapping[str, str], timeouts: StreamTimeouts) -> None:
        """``headers`` besides those of every stream."""
        super().__init__(headers={"cache-control": "no-cache", "x-accel-buffering": "no", **headers})
        del self.headers["content-length"]
        self._work = work
        self._timeouts = timeouts
        self._gone = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._send = send
        with Watch(receive, self._work, when_gone=self._left):
            try:
                await self._begin()
                if self._gone:
                    await Response(status_code=CLIENT_GONE)(scope, receive, send)
                    return
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                await self._send_all()
            except TimeoutError:
                log.info("client read nothing and was cut off", seconds=self._timeouts.stall_timeout)
                self._work.cancel()
                await drop(scope, receive)
            except Truncated:
                await drop(scope, receive)

    def _left(self) -> None:
        self._gone = True

    async def _push(self, data: bytes, *, more: bool = True) -> None:
        """Raises TimeoutError once the client has read nothing for too long."""
        if more or not self._gone:
            async with asyncio.timeout(self._timeouts.stall_timeout):
                await self._send({"type": "http.response.body", "body": data, "more_body": more})

    async def _begin(self) -> None:
        """Wait until the head may be sent. What this raises can still be answered with a status of its own."""

    @abstractmethod
    async def _send_all(self) -> None:
        """Push everything. Raises Truncated where it ends without its end."""


class Truncated(Exception):
    """What was sent is not whole, and there is no other way to say so than to break the connection."""


class AnswerStream(Stream):
    """An answer's chunks. It begins with the first one, or after so long that the client should hear something."""

    def __init__(self, answer: ResponseStream, headers: Mapping[str, str], timeouts: StreamTimeouts) -> None:
        super().__init__(answer, headers, timeouts)
        self._answer = answer

    async def _begin(self) -> None:
        """Raises ResponseFailed if it fails before there is anything of it."""
        await self._answer.started(self._commit_after())
        if not self._gone:
            self._answer.raise_early()
        self.headers.update(timings(self._answer, run=False))

    def _commit_after(self) -> float | None:
        """Seconds after which the head is sent all the same; None: never."""
        return self._timeouts.commit_after

    def _left(self) -> None:
        super()._left()
        self._answer.complete()


class EventStream(AnswerStream):
    """An answer's chunks as ``data:`` events, then ``[DONE]``; a failure is an event and the end."""

    media_type = "text/event-stream"

    async def _send_all(self) -> None:
        try:
            if first := self._first():
                await self._push(first)
            quiet = 0.0  # at once: who has waited until the stream was committed should hear something
            while not await self._answer.started(quiet):
                await self._push(_WAITING)
                quiet = self._timeouts.comment_every
            while chunks := await self._answer.some():
                await self._push(self._events(chunks))
        except ResponseFailed as failure:
            await self._push(self._failure(Refused(failure)), more=False)
            return
        await self._push(self._end(), more=False)

    def _first(self) -> bytes:
        return b""

    def _events(self, chunks: Sequence[bytes]) -> bytes:
        return b"".join([b"data: %b\n\n" % chunk for chunk in chunks])

    def _failure(self, refused: Refused) -> bytes:
        return b"data: %b\n\n" % msgspec.json.encode(refused.body)

    def _end(self) -> bytes:
        return _DONE


class TypedEventStream(EventStream):
    """Events that name their types: the last one says that it is the last, as OpenAI's do, and no ``[DONE]``."""

    def _end(self) -> bytes:
        return b""


class SoundStream(AnswerStream):
    """An answer's bytes as they are."""

    def _commit_after(self) -> None:
        """Sound has no comments that could be sent meanwhile."""

    async def _send_all(self) -> None:
        try:
            while chunks := await self._answer.some():
                await self._push(b"".join(chunks))
        except ResponseFailed as failure:
            log.info("a stream of sound was broken off", why=str(failure))
            raise Truncated from None
        await self._push(b"", more=False)


Kind = Callable[[ResponseStream, Mapping[str, str], StreamTimeouts], EventStream]


def events(
    request: Request, answer: ResponseStream, warning: str | None = None, kind: Kind = EventStream
) -> Response:
    """A stream of events. Sending it raises ResponseFailed if the answer fails before it has begun."""
    stream = kind(answer, {}, request.app.state.timeouts)
    warn(stream, warning)
    return stream


def sound(request: Request, answer: ResponseStream, media_type: str, warning: str | None) -> Response:
    """A stream of sound. Sending it raises ResponseFailed if the answer fails before it has begun."""
    stream = SoundStream(answer, {"content-type": media_type}, request.app.state.timeouts)
    warn(stream, warning)
    return stream
