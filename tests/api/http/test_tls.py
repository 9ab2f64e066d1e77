"""TLS on a real socket: who does not finish his handshake is cut off, and the limits of connections hold over it."""

import asyncio
import json
import logging
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop

from api.fake_service import CHAT, FakeService, as_asked, at_once
from api.loopback_server import Watched, listening
from cohabit.api.app import create_app
from cohabit.api.http.connections import Limits
from cohabit.api.http.tls import Certificate, CertificateFiles
from cohabit.api.streams import StreamTimeouts
from cohabit.runtime.requests import ModelRequest, ResponseStream
from harness import PATIENCE

pytestmark = pytest.mark.process  # a server on a socket, whose limits pass in real time

Lines = list[MutableMapping[str, Any]]
QUICK = Limits(head=0.5, head_bytes=8192, body=0.5, linger=0.3, keep_alive=1, stall=0.5, every=0.05, connections=3)
LIVE = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
CUT_OFF = "client read nothing and was cut off"
LARGE = 16 << 20  # bytes, more than the sockets of both sides hold


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., Any]]:
    """Runs a coroutine on one kind of loop, which must have nothing to complain of."""
    with asyncio.Runner(loop_factory=request.param) as found, caplog.at_level(logging.WARNING):
        yield found.run
    assert caplog.records == []


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(tmp_path: Path, authority: trustme.CA) -> Certificate:
    leaf = authority.issue_cert("localhost")
    files = CertificateFiles(tmp_path / "cert.pem", tmp_path / "key.pem")
    leaf.cert_chain_pems[0].write_to_path(files.certificate)
    leaf.private_key_pem.write_to_path(files.key)
    return Certificate(files)


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """A client's."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


class Client:
    """Over TLS; reads no more than is asked for and what a small buffer holds."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def pause(self, *, over: bool = False) -> None:
        """Take nothing from the socket, until it is over."""
        transport: Any = self.writer.transport  # typed as one that only writes
        (transport.resume_reading if over else transport.pause_reading)()

    async def hear(self) -> tuple[int, Any]:
        """The next answer, which has a content-length: its status and its JSON."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert length is not None
        return int(head.split()[1]), json.loads(await self.reader.readexactly(int(length[1])))


def whole(**fields: Any) -> bytes:
    body = json.dumps({**CHAT, **fields}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


@asynccontextmanager
async def shaken(watched: Watched, trusting: ssl.SSLContext) -> AsyncIterator[Client]:
    """A connection to that server."""
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, watched.address)
        reader, writer = await asyncio.open_connection(
            sock=connection, ssl=trusting, server_hostname="localhost", limit=4096
        )
        yield Client(reader, writer)
        writer.transport.abort()


def large(call: ModelRequest, answer: ResponseStream) -> None:
    at_once(b'"%b"' % (b"x" * LARGE))(call, answer)


def test_several_requests_on_one_tls_connection(
    runner: Callable[..., Any], certificate: Certificate, trusting: ssl.SSLContext
) -> None:
    service = FakeService()
    service.reply = as_asked

    async def scenario() -> None:
        async with (
            listening(create_app(service), certificate=certificate) as (watched, _door),
            shaken(watched, trusting) as client,
        ):
            await client.say(LIVE + whole())
            assert [(await client.hear())[0] for _ in range(2)] == [200, 200]
            await client.say(LIVE.replace(b"\r\n\r\n", b"\r\norigin: https://localhost\r\n\r\n"))
            assert (await client.hear())[0] == 200, "its scheme is https"
            await client.say(LIVE.replace(b"\r\n\r\n", b"\r\norigin: http://localhost\r\n\r\n"))
            assert (await client.hear())[0] == 403
            assert client.writer.get_extra_info("ssl_object").version() == "TLSv1.3"

    runner(scenario())


@pytest.mark.parametrize(
    ("version", "spoken"),
    [(ssl.TLSVersion.TLSv1_1, None), (ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated")
def test_broken_tls_versions_are_refused(
    version: ssl.TLSVersion,
    spoken: str | None,
    runner: Callable[..., Any],
    certificate: Certificate,
    trusting: ssl.SSLContext,
) -> None:
    trusting.set_ciphers("DEFAULT:@SECLEVEL=0")
    trusting.minimum_version = trusting.maximum_version = version

    async def scenario() -> None:
        async with listening(create_app(FakeService()), certificate=certificate) as (watched, _door):
            try:
                async with shaken(watched, trusting) as client:
                    assert client.writer.get_extra_info("ssl_object").version() == spoken
            except (ssl.SSLError, ConnectionResetError):
                assert spoken is None

    runner(scenario())


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="half a hello"),
        pytest.param(LIVE, id="plain HTTP"),
        pytest.param(bytes(1 << 16), id="noise"),
    ],
)
def test_unfinished_handshake_is_cut_off(
    said: bytes, runner: Callable[..., Any], certificate: Certificate, trusting: ssl.SSLContext
) -> None:
    async def scenario() -> None:
        app = create_app(FakeService())
        async with listening(app, certificate=certificate, handshake=0.3) as (watched, door):
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(door, said)
            with suppress(ConnectionResetError):  # as good an end as another
                async with asyncio.timeout(PATIENCE):
                    while await loop.sock_recv(door, 1024):
                        pass
            assert watched.state.connections == set()
            async with shaken(watched, trusting) as client:
                await client.say(LIVE)
                assert (await client.hear())[0] == 200

    runner(scenario())


def test_oldest_handshake_makes_room(
    runner: Callable[..., Any], certificate: Certificate, trusting: ssl.SSLContext
) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with listening(create_app(FakeService()), QUICK, certificate, handshake=30.0) as (watched, first):
            others = [socket.socket() for _ in range(QUICK.connections - 1)]
            for other in others:
                other.setblocking(False)
                await loop.sock_connect(other, first.getpeername())
            async with shaken(watched, trusting) as client:
                await client.say(LIVE)
                assert (await client.hear())[0] == 200
            with suppress(ConnectionResetError):  # as good an end as another
                async with asyncio.timeout(PATIENCE):
                    assert await loop.sock_recv(first, 1) == b""
            for other in others:
                with pytest.raises(BlockingIOError):
                    other.recv(1)
                other.close()

    runner(scenario())


@pytest.mark.parametrize(
    ("said", "refusal"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nhost: t\r\nx: y", (408, "request_too_slow"), id="head"),
        pytest.param(whole()[:-5], (408, "request_too_slow"), id="body"),
        pytest.param(b"GET /" + b"x" * 9000, (431, "head_too_large"), id="size"),
        pytest.param(b"\x00\r\n\r\n", (400, "invalid_http"), id="noise"),
    ],
)
def test_refusals_before_a_request_are_readable_over_tls(
    said: bytes,
    refusal: tuple[int, str],
    runner: Callable[..., Any],
    certificate: Certificate,
    trusting: ssl.SSLContext,
) -> None:
    async def scenario() -> None:
        async with (
            listening(create_app(FakeService()), QUICK, certificate) as (watched, _door),
            shaken(watched, trusting) as client,
        ):
            await client.say(said)
            status, body = await client.hear()
            assert (status, body["error"]["code"]) == refusal
            assert await client.reader.read() == b""
            await watched.gone()

    runner(scenario())


def test_unread_answer_over_tls_is_cut_off(
    runner: Callable[..., Any], certificate: Certificate, trusting: ssl.SSLContext, logged: Lines
) -> None:
    """Below TLS is where it waits."""
    service = FakeService()
    service.reply = large

    async def scenario() -> None:
        async with (
            listening(create_app(service), QUICK, certificate) as (watched, _door),
            shaken(watched, trusting) as client,
        ):
            await client.say(whole())
            await watched.gone()

    runner(scenario())
    assert CUT_OFF in [line["event"] for line in logged]


def test_slowly_read_answer_over_tls_is_not_cut_off(
    runner: Callable[..., Any], certificate: Certificate, trusting: ssl.SSLContext
) -> None:
    """It ends with the connection, which loops by themselves would cut off after a while."""
    service = FakeService()
    service.reply = large

    async def scenario() -> None:
        async with (
            listening(create_app(service), replace(QUICK, stall=5.0), certificate) as (watched, _door),
            shaken(watched, trusting) as client,
        ):
            await client.say(whole().replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n", 1))
            got = 0
            while piece := await client.reader.read(1 << 20):
                got += len(piece)
                if got < 1 << 20:
                    await asyncio.sleep(0.002)
            assert got > LARGE
            await watched.gone()

    runner(scenario())


def test_unread_stream_over_tls_is_cut_off(
    runner: Callable[..., Any], certificate: Certificate, trusting: ssl.SSLContext, logged: Lines
) -> None:
    service = FakeService()

    async def scenario() -> None:
        app = create_app(service, timeouts=StreamTimeouts(stall_timeout=0.1))
        async with listening(app, certificate=certificate) as (watched, _door), shaken(watched, trusting) as client:
            await client.say(whole(stream=True))
            _, answer = await service.asked.get()
            for _ in range(400):  # more than all buffers on the way hold
                answer.put(b'"%b"' % (b"x" * 65536))
                await asyncio.sleep(0)
            await watched.gone()

    runner(scenario())
    assert service.cancelled == [1]
    assert [line["event"] for line in logged if line["log_level"] == "info"] == [CUT_OFF, "request"]


def test_missing_tls_goodbye_does_not_hold_the_connection(
    runner: Callable[..., Any], certificate: Certificate, trusting: ssl.SSLContext
) -> None:
    """TLS asks both sides to say that it ends."""

    async def scenario() -> None:
        async with (
            listening(create_app(FakeService()), QUICK, certificate) as (watched, _door),
            shaken(watched, trusting) as client,
        ):
            client.pause()  # so that it does not see the other's leave
            await client.say(LIVE.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"))
            await watched.gone()

    runner(scenario())


def test_stopping_server_does_not_wait_for_idle_tls_clients(
    runner: Callable[..., Any], certificate: Certificate, trusting: ssl.SSLContext
) -> None:
    async def scenario() -> None:
        async with (
            listening(create_app(FakeService()), certificate=certificate) as (watched, _door),
            shaken(watched, trusting) as client,
        ):
            await client.say(LIVE)
            assert (await client.hear())[0] == 200
            client.pause()
            for connection in list(watched.state.connections):
                connection.shutdown()
            await watched.gone()
            client.pause(over=True)
            assert await client.reader.read() == b"", "an end in order"

    runner(scenario())


def test_renewed_certificate_is_shown_to_the_next_client(
    runner: Callable[..., Any],
    certificate: Certificate,
    trusting: ssl.SSLContext,
    authority: trustme.CA,
    tmp_path: Path,
) -> None:
    async def shown(watched: Watched) -> int:
        async with shaken(watched, trusting) as client:
            await client.say(LIVE)
            assert (await client.hear())[0] == 200
            return int(client.writer.get_extra_info("peercert")["serialNumber"], 16)

    async def scenario() -> None:
        async with listening(create_app(FakeService()), certificate=certificate) as (watched, _door):
            first = await shown(watched)
            assert await shown(watched) == first
            leaf = authority.issue_cert("localhost")
            leaf.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
            assert await shown(watched) == first, "without its key it is of no use"
            leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
            assert await shown(watched) != first

    runner(scenario())
