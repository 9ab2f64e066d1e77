"""Connections: bounds on what a client sends before there is a request, and on its time; aborting a connection.

uvicorn bounds neither the size of a request's head nor the time in which head and body arrive, so that a client that
sends a byte now and then holds a connection without end. Here every connection is checked every few seconds (there is
no timer for each request). It is ended if its client is late: with sending, or with reading its answer.
"""

import asyncio
import select
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from itertools import chain
from math import inf
from typing import Any, ClassVar, Final

import httptools
import msgspec
import structlog
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from cohabit.api.errors import ApiError, BadRequest

log = structlog.get_logger()

_ABORT: Final = "cohabit.abort"
GONE: Final = "cohabit.gone"
_ALWAYS_ANSWERED = ("/health/", "/metrics")  # or a crowd would have the server restarted


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Of one connection; seconds and bytes."""

    head: float = 20.0  # until a request's head is there
    head_bytes: int = 64 << 10  # address and headers; also trailers, and what else comes between two pieces of body
    headers: int = 100
    pipelined: int = 1000  # requests that were sent behind one that is not answered
    body: float = 30.0  # until ``body_step`` bytes more of the body have come, or its end
    body_step: int = 64 << 10
    linger: float = 10.0  # for the rest of what was answered before it was there
    keep_alive: int = 75  # idle; longer than clients and proxies keep theirs, or they would meet one that just closes
    stall: float = 60.0  # a client that reads nothing of its whole answer is cut off
    every: float = 5.0  # between two looks, so that much later than told
    connections: int = 1024  # of all clients; one that asks for nothing makes room for another
    grace: float = 1.0  # before it does: whoever has just connected, or was just answered, is about to ask
    held: int = 1 << 30  # bytes of bodies that are not answered yet, of all clients


LIMITS = Limits()


class _Phase(Enum):
    """What the client is doing."""

    IDLE = auto()
    HEAD = auto()
    BODY = auto()
    WAITING = auto()
    REFUSED = auto()


_AT_REST = frozenset({_Phase.IDLE, _Phase.HEAD, _Phase.REFUSED})


@dataclass(slots=True)
class Held:
    """Bytes of bodies that are being received or answered, of all connections of a server."""

    total: int = 0


class Connection(HttpToolsProtocol):
    """uvicorn's protocol with limits, and with a way for the app to drop it.

    To be used as ``uvicorn.Config(http=Connection)``. A refusal has the shape of every other error.
    """

    limits: ClassVar[Limits] = LIMITS
    held: ClassVar[Held] = Held()
    carrier: asyncio.Transport | None = None
    """What a transport that speaks TLS writes to. Nearly all that waits to be read waits there."""

    def connection_made(self, transport: Any) -> None:
        """Begin to look."""
        super().connection_made(transport)
        self.timeout_keep_alive = self.limits.keep_alive
        self._phase = _Phase.IDLE
        self._began = self._rested = self.loop.time()
        self._due = self._began + self.limits.head  # when the client must have done its part
        self._since = 0  # bytes of body since it was last moved on
        self._body = 0  # bytes of bodies that are not answered yet
        self._barren = 0  # bytes since something was made of any
        self._left, self._moved = 0, self._began  # bytes to be written, and when they last became fewer
        self._refusal: ApiError | None = None
        self._unanswered: deque[RequestResponseCycle] = deque()
        self._timer = self.loop.call_later(self.limits.every, self._look)
        if len(self.connections) > self.limits.connections and not self._room_made():
            if len(self.connections) > 2 * self.limits.connections:
                self.transport.abort()
            else:
                self._app, self.app = self.app, self._crowded

    def connection_lost(self, exc: Exception | None) -> None:
        """End looking."""
        self._timer.cancel()
        self._forget()
        self._disconnect()
        super().connection_lost(exc)

    def eof_received(self) -> None:
        """The transport closes now, ``connection_lost`` comes later: until then uvloop refuses to write."""
        self._disconnect()

    def _disconnect(self) -> None:
        """Nobody is there to answer; uvicorn tells only the last of several requests."""
        for cycle in self._unanswered:
            cycle.disconnected = True
            cycle.message_event.set()

    def shutdown(self) -> None:
        """As uvicorn's, but that no client is waited for only to take leave of TLS."""
        super().shutdown()
        if self.carrier is not None and self.transport.is_closing() and not self.transport.get_write_buffer_size():
            self.carrier.close()

    def data_received(self, data: bytes) -> None:
        """As uvicorn's, but that what is refused is refused in our words, and upgrades are passed over."""
        if self._phase is _Phase.REFUSED:
            return
        self._unset_keepalive_if_required()
        if self._phase is _Phase.IDLE:  # blank lines too, which the parser does not tell of
            self._due = min(self._due, self.loop.time() + self.limits.head)
        self._barren += len(data)
        unread = [memoryview(data)]  # the next last
        try:
            while unread:
                piece = unread.pop()
                try:
                    self.parser.feed_data(piece)
                except httptools.HttpParserUpgrade as upgrade:
                    unread += (piece[upgrade.args[0] :], memoryview(self._without_upgrade()))
        except httptools.HttpParserError:
            self._refuse(self._refusal or BadRequest("this is not valid HTTP", code="invalid_http"))
        except ApiError as error:
            self._refuse(error)
        else:
            if self._barren > self.limits.head_bytes:
                self._refuse(self._too_large())

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["extensions"] = {_ABORT: self.transport.abort, GONE: self._hung_up}  # type: ignore[dict-item]  # typed as plain data
        self._phase = _Phase.HEAD
        self._due = min(self._due, self.loop.time() + self.limits.head)

    def on_headers_complete(self) -> None:
        """Its head is there."""
        if self.parser.should_upgrade():
            return  # see _pass_over
        size = len(self.url) + sum(map(len, chain.from_iterable(self.headers)))
        if size > self.limits.head_bytes or len(self.headers) > self.limits.headers:
            self._refusal = self._too_large()
            raise self._refusal
        if len(self.pipeline) >= self.limits.pipelined:
            self._refusal = BadRequest("too many pipelined requests; wait for answers", code="too_many_pipelined")
            raise self._refusal
        super().on_headers_complete()
        self._unanswered.append(self.cycle)
        self.headers = []  # where the parser puts trailers: what the app was given stays as it is
        self._phase = _Phase.BODY
        self._barren = self._since = 0
        self._due = self.loop.time() + self.limits.body

    def on_body(self, body: bytes) -> None:
        """Some of its body."""
        self._barren = 0
        if not self.cycle.response_complete:
            self._body += len(body)
            self.held.total += len(body)
            if self.held.total > self.limits.held:
                self._refusal = _too_much()
                raise self._refusal
        super().on_body(body)
        self._since += len(body)
        if self._since >= self.limits.body_step and not self.cycle.response_complete:
            self._since = 0
            self._due = self.loop.time() + self.limits.body

    def on_message_complete(self) -> None:
        """All of it is there."""
        if self.parser.should_upgrade():
            return
        super().on_message_complete()
        self._barren = 0
        self._phase, self._due = _Phase.WAITING, inf
        if self.cycle.response_complete:
            self._rest()

    def on_response_complete(self) -> None:
        """It is answered."""
        self._unanswered.popleft()
        super().on_response_complete()
        if not self.cycle.response_complete:
            return  # the next one is waiting already
        self._forget()
        if self._phase is _Phase.WAITING:
            self._rest()
        elif self._phase is _Phase.BODY:
            self._due = min(self._due, self.loop.time() + self.limits.linger)

    def _forget(self) -> None:
        self.held.total -= self._body
        self._body = 0

    def _rest(self) -> None:
        self._phase, self._rested = _Phase.IDLE, self.loop.time()
        self._due = self._rested + self.limits.keep_alive + self.limits.head

    def _look(self) -> None:
        now = self.loop.time()
        closing = self.transport.is_closing()
        left = self.transport.get_write_buffer_size()
        if self.carrier is not None:
            left += self.carrier.get_write_buffer_size()
        writing = self.cycle is not None and not self.cycle.response_complete and not closing
        if not (left or closing) or left < self._left or writing:  # streams have a limit of their own
            self._moved = now
        self._left = left
        self._timer = self.loop.call_later(self.limits.every, self._look)
        if left and now - self._moved >= self.limits.stall:
            log.info("client read nothing and was cut off", seconds=self.limits.stall)
            self.transport.abort()
        elif closing and not left and now - self._moved >= self.limits.linger:
            self.transport.abort()  # with TLS a client has to agree to the end
        elif now >= self._due and not closing and not self.flow.read_paused and not left:
            self._late()

    def _late(self) -> None:
        """The client has not done its part in time."""
        answered = self.cycle is None or self.cycle.response_complete
        if self._phase in {_Phase.IDLE, _Phase.REFUSED} or (self._phase is _Phase.BODY and answered):
            self.transport.close()
        else:
            what = f"{'head' if self._phase is _Phase.HEAD else 'body'} of the request"
            self._refuse(
                ApiError(408, f"the {what} arrived too slowly", kind="timeout_error", code="request_too_slow")
            )

    def _refuse(self, error: ApiError) -> None:
        """Answer with an error and close; only close if that would stand inside another answer.

        What the client goes on to send is read for a while: closing at once could reset the connection before it has
        seen the answer.
        """
        log.info("refused before it was a request", code=error.body["error"]["code"])
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            if self.cycle.response_started or self.pipeline:
                self.transport.abort()
                return
        self._forget()
        body = msgspec.json.encode(error.body)
        headers = {**error.headers, "content-type": "application/json", "content-length": len(body)}
        lines = [f"{name}: {value}\r\n".encode() for name, value in headers.items()]
        self.transport.write(b"".join([STATUS_LINE[error.status], *lines, b"connection: close\r\n\r\n", body]))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()  # TLS goes on to read by itself until the client closes too
        self._phase = _Phase.REFUSED
        self._due = self.loop.time() + self.limits.linger

    def _too_large(self) -> ApiError:
        most, headers = self.limits.head_bytes >> 10, self.limits.headers
        message = f"the head is too large: at most {most} KiB of URL and headers, and {headers} headers"
        return ApiError(431, message, code="head_too_large")

    def _without_upgrade(self) -> bytes:
        """The head to be read again, without its wish for another protocol, which a server is free not to heed.

        The parser takes such a request to have no body, which would make a request of its own of what is one. curl
        and Java's client send these wishes unasked. Raises ApiError for what cannot be passed over.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            raise ApiError(405, "CONNECT is not supported: this is no proxy", code="method_not_allowed")
        lines = [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, self.url, b"".join(lines))
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
        return head

    def _hung_up(self) -> bool:
        """Whether the client has closed its side, though what it sent before is not read yet.

        The transport learns of that only when it has read up to there, and while a request is busy it does not read.
        """
        place = self.transport.get_extra_info("socket")
        if self.transport.is_closing() or place is None:
            return True
        state = select.poll()
        state.register(place.fileno(), select.POLLRDHUP)
        return bool(state.poll(0))

    def _room_made(self) -> bool:
        """Whether there was a connection to close on which nothing has been asked for since ``grace`` seconds.

        Of several it is the one on which nothing was asked for longest.
        """
        before = self.loop.time() - self.limits.grace
        resting = [
            other
            for other in self.connections
            if isinstance(other, Connection) and other is not self and other._at_rest() and other._rested <= before
        ]
        if not resting:
            return False
        transport = min(resting, key=lambda other: other._rested).transport
        if len(self.connections) > 2 * self.limits.connections:
            transport.abort()  # those that are closed stay until their clients have read what is left
        else:
            transport.close()
        return True

    def _at_rest(self) -> bool:
        return self._phase in _AT_REST and not self.transport.is_closing()

    async def _crowded(self, scope: Scope, receive: Receive, send: Send) -> None:
        """In place of the app, for a connection beyond the limit while all others are at work."""
        if scope["path"].startswith(_ALWAYS_ANSWERED):
            await self._app(scope, receive, send)
            return
        log.info("refused before it was a request", code="too_many_connections")
        message = "the server has reached its number of connections; close some or try again later"
        error = ApiError(503, message, kind="server_error", code="too_many_connections")
        error.headers["connection"] = "close"
        await error.response()(scope, receive, send)


def _too_much() -> ApiError:
    message = "the server holds too many bytes of requests that are not answered yet; try again later"
    return ApiError(503, message, kind="server_error", code="too_many_bytes", retry_after=5.0)


def gone(scope: Scope) -> bool:
    """Whether the client has hung up, without reading on. Under another server that is not known."""
    hung_up = (scope.get("extensions") or {}).get(GONE)
    return hung_up is not None and hung_up()


async def drop(scope: Scope, receive: Receive) -> None:
    """End the connection now and wait until it has ended. Under another server, leave that to it.

    Returning from ASGI without the end of an answer makes uvicorn close the transport, which first waits until all
    that is buffered is written: for ever, if the client reads nothing. Nor may the end be written then, since the
    client would take a part for the whole.
    """
    abort = (scope.get("extensions") or {}).get(_ABORT)
    if abort is None:
        return
    abort()
    while (await receive())["type"] != "http.disconnect":
        pass
