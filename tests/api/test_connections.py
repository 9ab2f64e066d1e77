"""Over a real socket, behind uvicorn: a connection that must end does end, and quietly."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
import uvloop
from fastapi import FastAPI
from uvicorn.server import ServerState

from api.driving import CANARY, CHAT, FakeService, as_asked
from cohabit.api.app import create_app
from cohabit.api.connections import Connection
from cohabit.api.streams import Pace
from cohabit.runtime.requests import Answer

Lines = list[MutableMapping[str, Any]]
CHUNK = b'"%b"' % (b"x" * 65536)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Runs a coroutine on one kind of loop."""
    with asyncio.Runner(loop_factory=request.param) as found:
        yield found.run


class Watched:
    """What a server's connections do."""

    def __init__(self) -> None:
        lost = asyncio.Event()

        class Told(Connection):
            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                lost.set()

        self.protocol = Told
        self.state = ServerState()
        self._lost = lost

    async def gone(self) -> None:
        """Until a connection has ended, and with it what the app did for it."""
        async with asyncio.timeout(5):
            await self._lost.wait()
            await asyncio.gather(*self.state.tasks)


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[tuple[Watched, socket.socket]]:
    """The app behind uvicorn and a client's small-buffered socket that is connected to it."""
    watched = Watched()
    config = uvicorn.Config(app, http=watched.protocol, lifespan="off", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    watched.state = server.server_state
    config.load()
    server.lifespan = config.lifespan_class(config)
    with socket.create_server(("127.0.0.1", 0)) as door, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await server.startup([door])
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, door.getsockname())
        try:
            yield watched, client
        finally:
            server.force_exit = True  # a connection that hangs must not hang the test
            await server.shutdown([door])


async def post(client: socket.socket, body: dict[str, Any]) -> None:
    raw = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\ncontent-length: {len(raw)}\r\n\r\n".encode()
    await asyncio.get_running_loop().sock_sendall(client, head + raw)


async def read_all(client: socket.socket) -> bytes:
    """All there is until the server has closed."""
    got = b""
    while piece := await asyncio.get_running_loop().sock_recv(client, 1 << 16):
        got += piece
    return got


def test_a_client_that_reads_nothing_is_cut_off(
    runner: Callable[..., Any], caplog: pytest.LogCaptureFixture, logged: Lines
) -> None:
    service = FakeService()

    async def scenario() -> None:
        async with listening(create_app(service, pace=Pace(stall_timeout=0.1))) as (watched, client):
            await post(client, {**CHAT, "stream": True})
            _, answer = await service.asked.get()
            for _ in range(200):  # more than the socket buffers of both sides hold
                answer.put(CHUNK)
                await asyncio.sleep(0)
            await watched.gone()
            assert b"[DONE]" not in await read_all(client)

    with caplog.at_level(logging.WARNING):
        runner(scenario())
    assert service.cancelled == [1]
    assert [line["event"] for line in logged] == ["client read nothing and was cut off", "request"]
    assert caplog.records == []


def test_a_bug_after_the_answer_began_ends_the_connection(
    runner: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    logged: Lines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def some(_self: Answer) -> list[bytes]:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(Answer, "some", some)
    service = FakeService()
    service.reply = lambda _call, answer: answer.put(b"{}")

    async def scenario() -> None:
        async with listening(create_app(service)) as (watched, client):
            await post(client, {**CHAT, "stream": True})
            got = await read_all(client)
            assert not got.endswith(b"0\r\n\r\n")
            await watched.gone()

    with caplog.at_level(logging.WARNING):
        runner(scenario())
    assert [line["event"] for line in logged] == ["unexpected error", "request"]
    assert caplog.records == []


def test_an_ordinary_connection_stays(runner: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    service = FakeService()
    service.reply = as_asked

    async def scenario() -> None:
        async with listening(create_app(service)) as (watched, client):
            for _ in range(2):
                await post(client, CHAT)
                got = await asyncio.get_running_loop().sock_recv(client, 1 << 16)
                assert got.startswith(b"HTTP/1.1 200")
            assert len(watched.state.connections) == 1

    runner(scenario())
    assert caplog.records == []
