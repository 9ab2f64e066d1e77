"""Over real sockets: how many connections, and bytes of all of them together, are taken."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from api.fake_service import CHAT, FakeService, as_asked
from api.loopback_server import listening
from api.sockets import (
    LARGE,
    LIVE,
    QUICK,
    connected,
    hear,
    large,
    read_all,
    refusal,
    say,
    whole,
)
from cohabit.api.app import create_app

pytestmark = pytest.mark.process  # a server on a socket, whose limits pass in real time


def test_connections_beyond_the_limit_are_refused(runner: Callable[..., Any]) -> None:
    """While all are at work the next is refused, but for whoever looks after the server."""
    service = FakeService()

    async def scenario() -> None:
        async with listening(create_app(service), QUICK) as (_watched, first), connected(first, 1) as (second,):
            asked = []
            for one in (first, second):
                await say(one, whole())
                asked.append(await service.asked.get())
            async with connected(first, 1) as (third,):
                await say(third, LIVE.replace(b"/health/live", b"/v1/models"))
                assert await refusal(third) == (503, "too_many_connections")
            async with connected(first, 1) as (fourth,):
                await say(fourth, LIVE)
                assert (await hear(fourth))[0] == 200, "or it would be taken for dead"
            for call, answer in asked:
                as_asked(call, answer)
            for one in (first, second):
                assert (await hear(one))[0] == 200

    runner(scenario())


def test_idle_connection_makes_room(runner: Callable[..., Any]) -> None:
    service = FakeService()

    async def scenario() -> None:
        async with listening(create_app(service), QUICK) as (_watched, first), connected(first, 1) as (second,):
            await say(first, whole())
            call, answer = await service.asked.get()
            await say(second, b"GET / HTTP/1.1\r\nx: ")
            async with connected(first, 1) as (third,):
                await say(third, LIVE.replace(b"/health/live", b"/v1/models"))
                assert (await hear(third))[0] == 200
                assert await read_all(second) == b""
            as_asked(call, answer)
            assert (await hear(first))[0] == 200

    runner(scenario())


def test_new_connection_is_not_closed_for_another(runner: Callable[..., Any]) -> None:
    service = FakeService()
    limits = replace(QUICK, grace=60.0, head=60.0)

    async def scenario() -> None:
        async with listening(create_app(service), limits) as (_watched, first), connected(first, 1) as (second,):
            await say(first, whole())
            call, answer = await service.asked.get()
            async with connected(first, 1) as (third,):
                await say(third, LIVE.replace(b"/health/live", b"/v1/models"))
                assert await refusal(third) == (503, "too_many_connections")
            await say(second, LIVE)
            assert (await hear(second))[0] == 200
            as_asked(call, answer)
            assert (await hear(first))[0] == 200

    runner(scenario())


def test_bodies_are_bounded_together(runner: Callable[..., Any]) -> None:
    service = FakeService()
    limits = replace(QUICK, connections=9, held=1000)

    async def scenario() -> None:
        async with listening(create_app(service), limits) as (watched, first), connected(first, 2) as others:
            second, third = others
            said = whole({**CHAT, "user": "x" * 500})
            await say(first, said)
            call, answer = await service.asked.get()
            await say(second, said)
            assert await refusal(second) == (503, "too_many_bytes")
            as_asked(call, answer)
            assert (await hear(first))[0] == 200
            assert watched.held.total == 0
            await say(third, said)
            await service.asked.get()
            assert watched.held.total > 500
            third.close()
            second.close()
            for _ in others:
                await watched.gone()
            assert watched.held.total == 0

    runner(scenario())


def test_connections_never_exceed_twice_the_limit(runner: Callable[..., Any]) -> None:
    """One that has made room is still there as long as its client has not read its answer."""
    service = FakeService()
    service.reply = large

    async def scenario() -> None:
        limits = replace(QUICK, connections=1, stall=30.0, grace=60.0)
        async with listening(create_app(service), limits) as (_watched, first):
            await say(first, whole())
            assert await asyncio.get_running_loop().sock_recv(first, 1) == b"H"
            async with connected(first, 1) as (second,):
                await say(second, LIVE)
                assert (await hear(second))[0] == 200
                async with connected(first, 1) as (third,):
                    with suppress(ConnectionResetError):
                        assert await asyncio.get_running_loop().sock_recv(third, 1) == b""
                await say(second, LIVE)
                assert (await hear(second))[0] == 200
            assert len(await read_all(first)) > LARGE

    runner(scenario())
