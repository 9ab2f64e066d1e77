"""TLS before there is a connection: a handshake has a time limit, and so has their number.

uvicorn would leave both to the loop, which counts nobody who has not finished his handshake. And what is written
to a connection passes two buffers, of which the lower one, here known, tells whether its client reads.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import structlog

from cohabit.api.http.certificates import Certificate
from cohabit.api.http.connections import Connection
from cohabit.runtime.supervision import supervise

log = structlog.get_logger()

SECONDS = 10.0  # for a handshake
_CLOSING: Final = 86400.0  # seconds; of how connections end, Connection knows more than the loop


class Handshakes:
    """Makes the protocol that a server begins with; counts those that are under way."""

    def __init__(
        self, connection: Callable[..., Connection], certificate: Certificate, *, most: int, seconds: float = SECONDS
    ) -> None:
        """``most`` at once, in ``seconds`` each; what comes after one is made by ``connection``."""
        self._connection = connection
        self._certificate = certificate
        self._most = most
        self._seconds = seconds
        self._under_way: dict[asyncio.Transport, None] = {}  # oldest first

    def __call__(self, **of_uvicorn: Any) -> asyncio.Protocol:
        """What ``uvicorn.Config(http=...)`` asks for when somebody connects."""
        return _Handshake(self, lambda: self._connection(**of_uvicorn))

    async def secured(self, protocol: "_Handshake", transport: asyncio.Transport) -> asyncio.Transport | None:
        """The transport that speaks TLS; None if there is nobody any more to speak to."""
        if len(self._under_way) >= self._most:
            oldest = next(iter(self._under_way))
            del self._under_way[oldest]
            oldest.abort()
        self._under_way[transport] = None
        try:
            found = await asyncio.get_running_loop().start_tls(
                transport,
                protocol,
                self._certificate.context(),
                server_side=True,
                ssl_handshake_timeout=self._seconds,
                ssl_shutdown_timeout=_CLOSING,
            )
        except OSError as error:  # as ssl's are, and that the time has passed
            log.debug("no handshake", why=getattr(error, "reason", None) or type(error).__name__)
            return None
        finally:
            self._under_way.pop(transport, None)
        return None if transport.is_closing() else found


class _Handshake(asyncio.Protocol):
    """Of one client, until its connection is made."""

    def __init__(self, of: Handshakes, connection: Callable[[], Connection]) -> None:
        self._of = of
        self._connection = connection
        self._early: list[bytes] = []
        self._lost = False

    def connection_made(self, transport: Any) -> None:
        supervise("handshake of TLS", self._begin(transport), lambda _: transport.abort())

    def data_received(self, data: bytes) -> None:
        """What comes just before TLS is there to read it, or with the end of the handshake."""
        self._early.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True

    async def _begin(self, transport: asyncio.Transport) -> None:
        if transport.is_closing():
            return
        asyncio.get_running_loop().call_soon(self._hand_on, transport)  # before the loop reads on
        secured = await self._of.secured(self, transport)
        if secured is None or self._lost:
            return
        connection = self._connection()
        connection.carrier = transport
        secured.set_protocol(connection)
        connection.connection_made(secured)
        for data in self._early:
            connection.data_received(data)

    def _hand_on(self, transport: asyncio.Transport) -> None:
        """uvloop has read already when it says that somebody is there: give that to the loop's TLS."""
        protocol: Any = transport.get_protocol()  # of both loops an asyncio.BufferedProtocol, but not by its type
        early, self._early = b"".join(self._early), []
        while early and not transport.is_closing():
            buffer = protocol.get_buffer(len(early))
            size = min(len(early), len(buffer))
            buffer[:size] = early[:size]
            protocol.buffer_updated(size)
            early = early[size:]
