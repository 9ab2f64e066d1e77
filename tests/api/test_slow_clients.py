"""Over a real socket: who says or reads nothing, or too slowly, is cut off; who takes his time is not."""

import asyncio
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from api.fake_service import CHAT, FakeService, as_asked
from api.loopback_server import listening
from api.sockets import (
    CHAT_HEAD,
    LARGE,
    LIVE,
    QUICK,
    Lines,
    drip,
    hear,
    large,
    read_all,
    refusal,
    say,
    whole,
)
from cohabit.api.app import create_app
from cohabit.api.streams import StreamTimeouts

pytestmark = pytest.mark.process  # a server on a socket, whose limits pass in real time

CHUNK = b'"%b"' % (b"x" * 65536)


def test_client_that_reads_nothing_is_cut_off(
    runner: Callable[..., Any], caplog: pytest.LogCaptureFixture, logged: Lines
) -> None:
    service = FakeService()

    async def scenario() -> None:
        async with listening(create_app(service, timeouts=StreamTimeouts(stall_timeout=0.1))) as (watched, client):
            await say(client, whole({**CHAT, "stream": True}))
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


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 10, (408, "request_too_slow"), id="head"),
        pytest.param(CHAT_HEAD % 1000 + b" " * 100, (408, "request_too_slow"), id="body"),
        pytest.param(
            CHAT_HEAD.replace(b"content-length: %d", b"transfer-encoding: chunked") + b"1\r\n \r\n" * 30,
            (408, "request_too_slow"),
            id="chunks",
        ),
    ],
)
def test_slow_request_is_refused(
    data: bytes, code: tuple[int, str], runner: Callable[..., Any], logged: Lines
) -> None:
    service = FakeService()

    async def scenario() -> None:
        async with listening(create_app(service), QUICK) as (watched, client):
            await drip(client, data)
            assert await refusal(client) == code
            await watched.gone()

    runner(scenario())
    assert not service.calls
    assert logged[0]["event"] == "refused before it was a request"


@pytest.mark.parametrize("data", [b"", b"\r\n" * 30], ids=["nothing", "blank lines"])
def test_silent_connection_is_closed(data: bytes, runner: Callable[..., Any]) -> None:
    async def scenario() -> None:
        async with listening(create_app(FakeService()), QUICK) as (watched, client):
            await drip(client, data)
            assert await read_all(client) == b""
            await watched.gone()

    runner(scenario())


def test_idle_connection_is_closed(runner: Callable[..., Any]) -> None:
    async def scenario() -> None:
        async with listening(create_app(FakeService()), QUICK) as (watched, client):
            await say(client, LIVE)
            assert (await hear(client))[0] == 200
            await drip(client, b"\r\n" * 30)
            assert await read_all(client) == b""
            await watched.gone()

    runner(scenario())


def test_large_body_that_moves_on_is_not_slow(runner: Callable[..., Any]) -> None:
    """Longer than the time for one step, and faster than a step in that time."""
    service = FakeService()
    service.reply = as_asked
    limits = replace(QUICK, body=1.0, body_step=4)

    async def scenario() -> None:
        async with listening(create_app(service), limits) as (_watched, client):
            raw = json.dumps(CHAT).encode()
            await say(client, CHAT_HEAD % len(raw))
            began = asyncio.get_running_loop().time()
            await drip(client, raw)
            assert asyncio.get_running_loop().time() - began > limits.body
            assert (await hear(client))[0] == 200

    runner(scenario())


def test_answer_may_take_longer_than_any_limit_of_the_request(runner: Callable[..., Any]) -> None:
    service = FakeService()

    async def scenario() -> None:
        async with listening(create_app(service), QUICK) as (_watched, client):
            await say(client, whole())
            call, answer = await service.asked.get()
            await asyncio.sleep(2 * QUICK.head)  # nothing to wait for: that nothing happens is what is looked at
            as_asked(call, answer)
            assert (await hear(client))[0] == 200

    runner(scenario())


def test_refused_body_is_not_read_without_end(runner: Callable[..., Any]) -> None:
    async def scenario() -> None:
        async with listening(create_app(FakeService()), QUICK) as (watched, client):
            await say(client, CHAT_HEAD % (64 << 20))
            assert (await hear(client))[0] == 413
            await drip(client, b" " * 50)
            assert await read_all(client) == b""
            await watched.gone()

    runner(scenario())


def test_request_after_a_refused_body_is_answered(runner: Callable[..., Any]) -> None:
    async def scenario() -> None:
        async with listening(create_app(FakeService()), QUICK) as (_watched, client):
            await say(client, b"POST /nowhere HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\n\r\n")
            assert (await hear(client))[0] == 404
            await say(client, b"body" + LIVE)
            assert (await hear(client))[0] == 200

    runner(scenario())


def test_unread_answer_is_cut_off(runner: Callable[..., Any], logged: Lines) -> None:
    service = FakeService()
    service.reply = large

    async def scenario() -> None:
        async with listening(create_app(service), QUICK) as (watched, client):
            await say(client, whole())
            await watched.gone()
            assert len(await read_all(client)) < LARGE

    runner(scenario())
    assert logged[-1]["event"] == "client read nothing and was cut off"
