"""Over a real socket, behind uvicorn: a connection that must end does end, and quietly; an ordinary one stays."""

import asyncio
import json
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send

from api.fake_service import CANARY, CHAT, FakeService, as_asked
from api.loopback_server import listening
from api.sockets import (
    CHAT_HEAD,
    LIVE,
    QUICK,
    Lines,
    hear,
    read_all,
    refusal,
    say,
    whole,
)
from cohabit.api.app import create_app
from cohabit.api.http.connections import gone
from cohabit.runtime.requests import ResponseStream

pytestmark = pytest.mark.process  # a server on a socket, whose limits pass in real time


def test_bug_after_the_answer_began_ends_the_connection(
    runner: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    logged: Lines,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def some(_self: ResponseStream) -> list[bytes]:
        raise RuntimeError(CANARY)

    monkeypatch.setattr(ResponseStream, "some", some)
    service = FakeService()
    service.reply = lambda _call, answer: answer.put(b"{}")

    async def scenario() -> None:
        async with listening(create_app(service)) as (watched, client):
            await say(client, whole({**CHAT, "stream": True}))
            got = await read_all(client)
            assert not got.endswith(b"0\r\n\r\n")
            await watched.gone()

    with caplog.at_level(logging.WARNING):
        runner(scenario())
    assert [line["event"] for line in logged] == ["unexpected error", "request"]
    assert caplog.records == []


def test_connection_is_kept_alive(runner: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    service = FakeService()
    service.reply = as_asked

    async def scenario() -> None:
        async with listening(create_app(service)) as (watched, client):
            for _ in range(2):
                await say(client, whole())
                got = await asyncio.get_running_loop().sock_recv(client, 1 << 16)
                assert got.startswith(b"HTTP/1.1 200")
            assert len(watched.state.connections) == 1

    runner(scenario())
    assert caplog.records == []


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 21 + b"\r\n", id="headers"),
        pytest.param(b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nhost: t\r\n\r\n", id="address"),
        pytest.param(b"GET / HTTP/1.1\r\nhost: t\r\nx: " + b"y" * 9000 + b"\r\n\r\n", id="header"),
        pytest.param(b"GET / HTTP/1.1\r\nhost: t\r\nx: " + b"y" * 9000, id="one without end"),
        pytest.param(
            CHAT_HEAD.replace(b"content-length: %d", b"transfer-encoding: chunked") + b"1;" + b"x" * (1 << 20),
            id="extension of a chunk",
        ),
    ],
)
def test_too_large_head_is_refused(data: bytes, runner: Callable[..., Any]) -> None:
    async def scenario() -> None:
        async with listening(create_app(FakeService()), QUICK) as (watched, client):
            await say(client, data)
            assert await refusal(client) == (431, "head_too_large")
            await watched.gone()

    runner(scenario())


def test_trailers_are_not_headers(runner: Callable[..., Any], logged: Lines) -> None:
    service = FakeService()
    service.reply = as_asked
    raw = json.dumps(CHAT).encode()
    head = CHAT_HEAD.replace(b"content-length: %d", b"transfer-encoding: chunked")

    async def scenario() -> None:
        async with listening(create_app(service), QUICK) as (_watched, client):
            trailers = b"x-request-timeout: 1\r\nx-request-id: late\r\n"
            await say(client, head + b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(raw), raw, trailers))
            assert (await hear(client))[0] == 200

    runner(scenario())
    assert service.calls[0].timeout is None
    assert logged[0]["id"] != "late"


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMA\r\n", id="h2c"),
        pytest.param(b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n", id="websocket"),
    ],
)
@pytest.mark.parametrize("parts", [1, 2])
def test_upgrade_is_ignored(
    headers: bytes, parts: int, runner: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """With the body where it belongs: the parser alone takes it for the next request."""
    service = FakeService()
    service.reply = as_asked
    smuggled = {**CHAT, "messages": [{"role": "user", "content": LIVE.decode()}]}
    said = whole(smuggled, CHAT_HEAD.replace(b"host: t\r\n", b"host: t\r\n" + headers))

    async def scenario() -> None:
        async with listening(create_app(service), QUICK) as (watched, client):
            for _ in range(2):
                split = said.index(b"\r\n\r\n") + 4
                for part in (said,) if parts == 1 else (said[:split], said[split:]):
                    await say(client, part)
                    await asyncio.sleep(0)
                assert (await hear(client))[0] == 200
            assert len(watched.state.connections) == 1

    runner(scenario())
    assert [json.loads(call.body) for call in service.calls] == [smuggled] * 2
    assert caplog.records == []


def test_garbage_within_a_request_ends_its_connection(runner: Callable[..., Any]) -> None:
    """An error must not stand in the middle of an answer."""
    service = FakeService()

    async def scenario() -> None:
        async with listening(create_app(service), QUICK) as (watched, client):
            await say(client, whole({**CHAT, "stream": True}))
            _, answer = await service.asked.get()
            answer.put(b'"one"')
            loop = asyncio.get_running_loop()
            got = b""
            while b"one" not in got:
                got += await loop.sock_recv(client, 1 << 16)
            await say(client, b"\x00\x01\x02\r\n\r\n")
            await watched.gone()
            with suppress(ConnectionResetError):
                assert b"HTTP/1.1" not in await read_all(client)

    runner(scenario())
    assert service.cancelled == [1]


def test_pipelined_requests_are_answered_in_order(runner: Callable[..., Any]) -> None:
    service = FakeService()
    service.reply = as_asked

    async def scenario() -> None:
        async with listening(create_app(service), QUICK) as (_watched, client):
            await say(client, whole() + LIVE + whole() + LIVE.replace(b"live", b"none"))
            assert [(await hear(client))[0] for _ in range(4)] == [200, 200, 200, 404]

    runner(scenario())


def test_connect_is_refused(runner: Callable[..., Any]) -> None:
    async def scenario() -> None:
        async with listening(create_app(FakeService()), QUICK) as (watched, client):
            await say(client, b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org\r\n\r\n")
            assert await refusal(client) == (405, "method_not_allowed")
            await watched.gone()

    runner(scenario())


def test_many_pipelined_upgrades_are_ignored(runner: Callable[..., Any], logged: Lines) -> None:
    count = 500
    wish = LIVE.replace(b"host: t", b"host: t\r\nconnection: upgrade\r\nupgrade: h2c")

    async def scenario() -> None:
        async with listening(create_app(FakeService()), QUICK) as (_watched, client):
            sending = asyncio.ensure_future(say(client, wish * count))
            assert [(await hear(client))[0] for _ in range(count)] == [200] * count
            await sending

    runner(scenario())
    assert not [line for line in logged if line["log_level"] == "error"]


def test_too_many_pipelined_requests_are_refused(runner: Callable[..., Any]) -> None:
    async def scenario() -> None:
        limits = replace(QUICK, pipelined=10)
        async with listening(create_app(FakeService()), limits) as (watched, client):
            await say(client, LIVE * 50)
            await watched.gone()

    runner(scenario())


def test_pipelined_requests_of_a_half_closed_client_end_quietly(
    runner: Callable[..., Any], logged: Lines, caplog: pytest.LogCaptureFixture
) -> None:
    service = FakeService()
    service.reply = as_asked

    async def scenario() -> None:
        async with listening(create_app(service), QUICK) as (watched, client):
            await say(client, whole() * 3)
            client.shutdown(socket.SHUT_WR)
            await watched.gone()
            await read_all(client)
            for _ in range(50):
                await asyncio.sleep(0)  # what was begun comes to its end

    runner(scenario())
    assert not [line for line in logged if line["log_level"] == "error"]
    assert caplog.records == []


async def until(what: Callable[[], bool]) -> None:
    """Poll until something is so."""
    async with asyncio.timeout(10):
        while not what():  # noqa: ASYNC110 - another task does it, and tells nobody
            await asyncio.sleep(0.001)


def test_hang_up_is_seen_while_nothing_is_read(runner: Callable[..., Any]) -> None:
    seen: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(gone(scope))
        await until(lambda: gone(scope))
        seen.append(True)
        while (await receive())["type"] != "http.disconnect":
            pass

    async def scenario() -> None:
        async with listening(app, QUICK) as (_watched, client):
            await say(client, (CHAT_HEAD % 500_000) + bytes(90_000))  # more than is read ahead
            await until(lambda: len(seen) == 1)
            client.close()
            await until(lambda: len(seen) == 2)

    runner(scenario())
    assert seen == [False, True]


async def test_hang_up_is_unknown_under_another_server() -> None:
    assert not gone({"type": "http"})
