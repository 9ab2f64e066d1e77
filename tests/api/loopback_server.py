"""A server on a socket within the test's process, whose connections can be watched."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from cohabit.api.http.connections import LIMITS, Connection, Held, Limits
from cohabit.api.http.tls import Certificate, Handshakes
from harness import PATIENCE


class Watched:
    """What a server's connections do."""

    def __init__(self, limits: Limits, certificate: Certificate | None, handshake: float) -> None:
        lost: asyncio.Queue[None] = asyncio.Queue()

        class Told(Connection):
            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                lost.put_nowait(None)

        Told.limits = limits
        Told.held = self.held = Held()
        self.protocol: Any = Told
        if certificate is not None:
            self.protocol = Handshakes(Told, certificate, most=limits.connections, seconds=handshake)
        self.state = ServerState()
        self.address: tuple[str, int] = ("", 0)
        self._lost = lost

    async def gone(self) -> None:
        """Until a connection has ended, and with it what the app did for it."""
        async with asyncio.timeout(PATIENCE):
            await self._lost.get()
            await asyncio.gather(*self.state.tasks)


@asynccontextmanager
async def listening(
    app: ASGIApp, limits: Limits = LIMITS, certificate: Certificate | None = None, handshake: float = 5.0
) -> AsyncIterator[tuple[Watched, socket.socket]]:
    """The app behind uvicorn and a client's small-buffered socket that is connected to it."""
    watched = Watched(limits, certificate, handshake)
    config = uvicorn.Config(app, http=watched.protocol, ws="none", lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    watched.state = server.server_state
    config.load()
    server.lifespan = config.lifespan_class(config)
    with socket.create_server(("127.0.0.1", 0)) as door, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await server.startup([door])
        watched.address = door.getsockname()
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, door.getsockname())
        try:
            yield watched, client
        finally:
            server.force_exit = True  # a connection that hangs must not hang the test
            await server.shutdown([door])
