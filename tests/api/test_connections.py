"""Over a real socket, behind uvicorn: a connection that must end does end, and quietly."""

import asyncio
import json
import logging
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
import uvloop

from api.driving import CANARY, CHAT, FakeService, as_asked, at_once
from api.watching import listening
from cohabit.api.app import create_app
from cohabit.api.connections import Limits
from cohabit.api.streams import Pace
from cohabit.runtime.requests import Answer, Call

pytestmark = pytest.mark.process  # a server on a socket, whose limits pass in real time

Lines = list[MutableMapping[str, Any]]
CHUNK = b'"%b"' % (b"x" * 65536)


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Runs a coroutine on one kind of loop."""
    with asyncio.Runner(loop_factory=request.param) as found:
        yield found.run


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


QUICK = Limits(
    head=0.5, head_bytes=8192, headers=20, body=0.5, linger=0.3, keep_alive=1, stall=0.3, every=0.05, connections=2
)
CHAT_HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: t\r\ncontent-length: %d\r\n\r\n"
LIVE = b"GET /health/live HTTP/1.1\r\nhost: t\r\n\r\n"


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
def test_what_drips_in_is_refused(
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
def test_who_says_nothing_is_hung_up_on(data: bytes, runner: Callable[..., Any]) -> None:
    async def scenario() -> None:
        async with listening(create_app(FakeService()), QUICK) as (watched, client):
            await drip(client, data)
            assert await read_all(client) == b""
            await watched.gone()

    runner(scenario())


def test_who_says_nothing_more_is_hung_up_on(runner: Callable[..., Any]) -> None:
    async def scenario() -> None:
        async with listening(create_app(FakeService()), QUICK) as (watched, client):
            await say(client, LIVE)
            assert (await hear(client))[0] == 200
            await drip(client, b"\r\n" * 30)
            assert await read_all(client) == b""
            await watched.gone()

    runner(scenario())


def test_a_large_body_that_moves_on_is_not_slow(runner: Callable[..., Any]) -> None:
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


def test_an_answer_may_take_as_long_as_it_takes(runner: Callable[..., Any]) -> None:
    service = FakeService()

    async def scenario() -> None:
        async with listening(create_app(service), QUICK) as (_watched, client):
            await say(client, whole())
            call, answer = await service.asked.get()
            await asyncio.sleep(2 * QUICK.head)  # nothing to wait for: that nothing happens is what is looked at
            as_asked(call, answer)
            assert (await hear(client))[0] == 200

    runner(scenario())


def test_a_body_that_was_refused_is_not_listened_to_for_ever(runner: Callable[..., Any]) -> None:
    async def scenario() -> None:
        async with listening(create_app(FakeService()), QUICK) as (watched, client):
            await say(client, CHAT_HEAD % (64 << 20))
            assert (await hear(client))[0] == 413
            await drip(client, b" " * 50)
            assert await read_all(client) == b""
            await watched.gone()

    runner(scenario())


def test_a_body_that_was_refused_may_end_and_the_next_be_answered(runner: Callable[..., Any]) -> None:
    async def scenario() -> None:
        async with listening(create_app(FakeService()), QUICK) as (_watched, client):
            await say(client, b"POST /nowhere HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\n\r\n")
            assert (await hear(client))[0] == 404
            await say(client, b"body" + LIVE)
            assert (await hear(client))[0] == 200

    runner(scenario())


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
def test_a_head_that_is_too_large(data: bytes, runner: Callable[..., Any]) -> None:
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


LARGE = 16 << 20  # bytes, more than the sockets of both sides hold


def large(call: Call, answer: Answer) -> None:
    at_once(b'"%b"' % (b"x" * LARGE))(call, answer)


def test_a_plain_answer_that_nobody_reads_is_given_up(runner: Callable[..., Any], logged: Lines) -> None:
    service = FakeService()
    service.reply = large

    async def scenario() -> None:
        async with listening(create_app(service), QUICK) as (watched, client):
            await say(client, whole())
            await watched.gone()
            assert len(await read_all(client)) < LARGE

    runner(scenario())
    assert logged[-1]["event"] == "client read nothing and was cut off"


@asynccontextmanager
async def connected(first: socket.socket, count: int) -> AsyncIterator[list[socket.socket]]:
    """So many more to the same server."""
    with ExitStack() as stack:
        others = [stack.enter_context(socket.socket()) for _ in range(count)]
        for other in others:
            other.setblocking(False)
            await asyncio.get_running_loop().sock_connect(other, first.getpeername())
        yield others


def test_as_many_connections_as_it_takes(runner: Callable[..., Any]) -> None:
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


def test_who_asks_for_nothing_makes_room(runner: Callable[..., Any]) -> None:
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


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param(b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMA\r\n", id="h2c"),
        pytest.param(b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n", id="websocket"),
    ],
)
@pytest.mark.parametrize("parts", [1, 2])
def test_a_wish_for_another_protocol_is_passed_over(
    headers: bytes, parts: int, runner: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """With the body where it belongs: the parser alone takes it for the next request."""
    service = FakeService()
    service.reply = as_asked
    smuggled = {**CHAT, "user": LIVE.decode()}
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


def test_what_is_no_request_within_another_ends_it(runner: Callable[..., Any]) -> None:
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


def test_requests_in_one_go_are_answered_in_their_order(runner: Callable[..., Any]) -> None:
    service = FakeService()
    service.reply = as_asked

    async def scenario() -> None:
        async with listening(create_app(service), QUICK) as (_watched, client):
            await say(client, whole() + LIVE + whole() + LIVE.replace(b"live", b"none"))
            assert [(await hear(client))[0] for _ in range(4)] == [200, 200, 200, 404]

    runner(scenario())


def test_bodies_of_all_together(runner: Callable[..., Any]) -> None:
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


def test_never_more_than_twice_as_many(runner: Callable[..., Any]) -> None:
    """One that has made room is still there as long as its client has not read its answer."""
    service = FakeService()
    service.reply = large

    async def scenario() -> None:
        limits = replace(QUICK, connections=1, stall=30.0)
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


def test_this_is_no_proxy(runner: Callable[..., Any]) -> None:
    async def scenario() -> None:
        async with listening(create_app(FakeService()), QUICK) as (watched, client):
            await say(client, b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org\r\n\r\n")
            assert await refusal(client) == (405, "method_not_allowed")
            await watched.gone()

    runner(scenario())
