"""A real socket before the app, behind uvicorn, and a client that says every byte itself."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, MutableMapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from api.fake_service import CHAT, at_once
from cohabit.api.http.connections import Limits
from cohabit.runtime.requests import ModelRequest, ResponseStream

Lines = list[MutableMapping[str, Any]]
QUICK = Limits(
    head=0.5,
    head_bytes=8192,
    headers=20,
    body=0.5,
    linger=0.3,
    keep_alive=1,
    stall=0.3,
    every=0.05,
    connections=2,
    grace=0.0,
)
CHAT_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\ncontent-length: %d\r\n\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nhost: t\r\n\r\n"
LARGE = 16 << 20  # bytes, more than the sockets of both sides hold


async def read_all(client: socket.socket) -> bytes:
    """All there is until the server has closed."""
    got = b""
    while piece := await asyncio.get_running_loop().sock_recv(client, 1 << 16):
        got += piece
    return got


def whole(body: dict[str, Any] = CHAT, head: bytes = CHAT_HEAD) -> bytes:
    raw = json.dumps(body).encode()
    return head % len(raw) + raw


async def say(client: socket.socket, data: bytes) -> None:
    await asyncio.get_running_loop().sock_sendall(client, data)


async def drip(client: socket.socket, data: bytes) -> None:
    """A byte at a time, until all is said or nobody listens any more."""
    for at in range(len(data)):
        try:
            await say(client, data[at : at + 1])
        except (BrokenPipeError, ConnectionResetError):
            return
        await asyncio.sleep(0.02)


async def hear(client: socket.socket) -> tuple[int, dict[str, Any]]:
    """The next answer, which has a content-length: its status and its JSON."""
    loop = asyncio.get_running_loop()
    got = b""
    while b"\r\n\r\n" not in got:
        got += await loop.sock_recv(client, 1)
    length = re.search(rb"content-length: (\d+)", got)
    assert length is not None
    body = b""
    while len(body) < int(length[1]):
        body += await loop.sock_recv(client, int(length[1]) - len(body))
    return int(got.split()[1]), json.loads(body)


async def refusal(client: socket.socket) -> tuple[int, str]:
    """The status and the code of an error, after which the connection has ended."""
    status, body = await hear(client)
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert await read_all(client) == b""
    return status, body["error"]["code"]


def large(call: ModelRequest, answer: ResponseStream) -> None:
    at_once(b'"%b"' % (b"x" * LARGE))(call, answer)


@asynccontextmanager
async def connected(first: socket.socket, count: int) -> AsyncIterator[list[socket.socket]]:
    """So many more to the same server."""
    with ExitStack() as stack:
        others = [stack.enter_context(socket.socket()) for _ in range(count)]
        for other in others:
            other.setblocking(False)
            await asyncio.get_running_loop().sock_connect(other, first.getpeername())
        yield others
