"""Clients that mean ill, or are broken, against a server as it is started: refused in order, nobody else the worse.

What takes its time (dripping, not reading: test_slow_clients.py; too many connections: test_crowds.py) is in
tests/api, over the same sockets with shorter limits.
"""

import gzip
import json
import re
import socket
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import psutil
import pytest

from harness import Running, cpu_seconds, preset, serving
from samples import bomb, chunk, data_url, picture

pytestmark = pytest.mark.process

CANARY = "Xylophonecanary"
CONFIG = "models: {llm: {engine: fake, aliases: [gpt-4o], options: {tokens: 4}}}"
CHAT = {"model": "llm", "messages": [{"role": "user", "content": "hello"}]}
CHATS = "/v1/chat/completions"
HEAR = "/v1/audio/transcriptions"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With the engine fake; at its end it must be as well as it was, and its log must know of no client's words."""
    with serving(tmp_path_factory.mktemp("hostile"), CONFIG) as running:
        assert running.chat().status_code == 200
        before = psutil.Process(running.pid).memory_info().rss
        yield running
        assert running.chat().status_code == 200
        assert running.http.get("/health/ready").status_code == 200
        assert [model["loads"] for model in running.status()["models"]] == [1]
        assert psutil.Process(running.pid).memory_info().rss - before < 150 << 20
        lines = running.log.read_text()
        assert CANARY not in lines
        assert "unexpected error" not in lines
        assert all(json.loads(line) for line in lines.splitlines()), "nothing but our own lines"


def spoken(server: Running, raw: bytes) -> bytes:
    """All that is answered to these bytes until the server closes, as it must."""
    url = httpx2.URL(server.url)
    with socket.create_connection((url.host, url.port), timeout=10) as connection:
        connection.sendall(raw)
        got = b""
        while piece := connection.recv(1 << 16):
            got += piece
    return got


def statuses(got: bytes) -> list[int]:
    """Of every answer in it."""
    return [int(found) for found in re.findall(rb"HTTP/1\.1 (\d+)", got)]


def get(path: str, *headers: str) -> bytes:
    """A request that asks for the connection to be closed after it."""
    head = [f"GET {path} HTTP/1.1", "host: localhost", "connection: close", *headers, "", ""]
    return "\r\n".join(head).encode("latin-1")


def post(body: bytes, *headers: str, path: str = CHATS, version: str = "1.1") -> bytes:
    """A request that asks for the connection to be closed after it."""
    head = [f"POST {path} HTTP/{version}", "host: localhost", "connection: close", *headers, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def whole(*headers: str, **fields: Any) -> bytes:
    """A chat."""
    body = json.dumps({**CHAT, **fields}).encode()
    return post(body, f"content-length: {len(body)}", *headers)


def error_of(got: bytes) -> dict[str, Any]:
    """Of the only answer."""
    assert len(statuses(got)) == 1
    found: dict[str, Any] = json.loads(got.partition(b"\r\n\r\n")[2])["error"]
    assert set(found) == {"message", "type", "param", "code"}
    assert CANARY.encode() not in got
    return found


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200), "invalid_http", id="TLS"),
        pytest.param(b"GET / HTTP/1.1\r\nno colon\r\n\r\n", "invalid_http", id="no colon"),
        pytest.param(b"GET / HTTP/1.1\r\nx: a\ny: b\r\n\r\n", "invalid_http", id="bare newline"),
        pytest.param(b"GET / HTTP/1.1\r\nx\x00: a\r\n\r\n", "invalid_http", id="NUL in a name"),
        pytest.param(b"GET / HTTP/1.1\r\nx: a\x00b\r\n\r\n", "invalid_http", id="NUL in a value"),
        pytest.param(get(f"/{CANARY}\xff"), "invalid_http", id="address"),
        pytest.param(f"{CANARY} / HTTP/1.1\r\nhost: t\r\n\r\n".encode(), "invalid_http", id="method"),
        pytest.param(b"CONNECT example.org:443 HTTP/1.1\r\nhost: t\r\n\r\n", "method_not_allowed", id="CONNECT"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "invalid_http", id="HTTP/2"),
        pytest.param(b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nhost: t\r\n\r\n", "head_too_large", id="long address"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200 + b"\r\n", "head_too_large", id="many headers"),
    ],
)
def test_malformed_requests_are_refused(raw: bytes, code: str, server: Running) -> None:
    assert error_of(spoken(server, raw))["code"] == code


SMUGGLED = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(post(b"ab", "content-length: 2", "content-length: 3"), id="two lengths"),
        pytest.param(post(b"ab", "content-length: 2", "content-length: 2"), id="the same length twice"),
        pytest.param(post(b"ab", "content-length: 2, 2"), id="a list of lengths"),
        pytest.param(post(b"ab", "content-length: +2"), id="sign"),
        pytest.param(post(b"ab", "content-length: -1"), id="negative"),
        pytest.param(post(b"ab", "content-length: 99999999999999999999999"), id="overflow"),
        pytest.param(post(b"0\r\n\r\n" + SMUGGLED, "content-length: 5", "transfer-encoding: chunked"), id="both"),
        pytest.param(post(b"0\r\n\r\n" + SMUGGLED, "transfer-encoding: chunked", "content-length: 5"), id="and back"),
        pytest.param(post(b"0\r\n\r\n" + SMUGGLED, "transfer-encoding : chunked"), id="space before the colon"),
        pytest.param(post(b"0\r\n\r\n" + SMUGGLED, "transfer-encoding: chunked, identity"), id="not chunked last"),
        pytest.param(post(b"0\r\n\r\n" + SMUGGLED, "transfer-encoding: xchunked"), id="almost chunked"),
        pytest.param(post(b"zz\r\n", "transfer-encoding: chunked"), id="a length that is none"),
        pytest.param(post(b"-1\r\n", "transfer-encoding: chunked"), id="a negative length"),
        pytest.param(post(b"fffffffffffffffff\r\n", "transfer-encoding: chunked"), id="a length that overflows"),
        pytest.param(post(b"1\r\nab\r\n0\r\n\r\n" + SMUGGLED, "transfer-encoding: chunked"), id="a longer chunk"),
    ],
)
def test_nothing_is_smuggled_behind_a_request(raw: bytes, server: Running) -> None:
    """One refusal, and nothing that came after is taken for a request."""
    got = spoken(server, raw)
    assert error_of(got)["code"] == "invalid_http"
    assert b"connection: close" in got.lower()


def test_upgrade_header_smuggles_nothing(server: Running) -> None:
    got = spoken(server, whole("upgrade: h2c", "connection: upgrade", user=SMUGGLED.decode()))
    assert statuses(got) == [200]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, identity", CANARY])
def test_compressed_body_is_not_decompressed(encoding: str, server: Running) -> None:
    """A megabyte of it might hold gigabytes."""
    packed = gzip.compress(bytes(64 << 20))
    answer = server.http.post(CHATS, content=packed, headers={"content-encoding": encoding})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "compressed_body")
    assert CANARY not in answer.text


def test_compressed_transfer_encoding_is_refused(server: Running) -> None:
    got = spoken(server, post(b"0\r\n\r\n", "transfer-encoding: gzip, chunked"))
    assert error_of(got)["code"] == "compressed_body"
    assert statuses(spoken(server, whole("content-encoding: identity"))) == [200]


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("../../../../etc/passwd", 400),
        ("a\0b", 400),
        (CANARY * 700, 400),
        ("é\udcff", 400),
        ('a"\r\nx-injected: y', 400),
    ],
)
def test_file_names_are_ignored(name: str, status: int, server: Running) -> None:
    """The model that is asked cannot hear, which is told; the name is not."""
    encoded = name.encode("utf-8", "surrogateescape")
    body = b'--x\r\ncontent-disposition: form-data; name="file"; filename="%b"\r\n\r\nRIFF\r\n' % encoded
    body += b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nllm\r\n--x--\r\n'
    answer = server.http.post(HEAR, content=body, headers={"content-type": "multipart/form-data; boundary=x"})
    assert answer.status_code == status
    assert CANARY not in answer.text
    assert "x-injected" not in answer.headers


@pytest.mark.parametrize("value", [f"a{CANARY}\tb", "a b", "é", "x" * 129])
def test_request_headers_are_not_reflected(value: str, server: Running) -> None:
    got = spoken(server, whole(f"x-request-id: {value}"))
    assert statuses(got) == [200]
    assert CANARY.encode() not in got
    assert len(re.findall(rb"(?im)^x-request-id: [0-9a-f]{16}\r$", got)) == 1


def test_line_breaks_never_reach_headers(server: Running) -> None:
    got = spoken(server, whole("x-request-id: a\r\n\tb"))  # folded over two lines
    assert b"\r\n\tb" not in got
    got = spoken(server, get("/v1/models/%0d%0aset-cookie:%20a"))
    assert statuses(got) == [404]
    assert b"set-cookie" not in got
    got = spoken(server, get("/v1/models/?a=%0d%0aset-cookie:%20a"))
    assert b"\r\nset-cookie" not in got


@pytest.mark.parametrize(
    "name", ["api_key", "api-key", "API_KEY", "key", "token", "access_token", "%6bey", "x-api-key", "password"]
)
@pytest.mark.parametrize("path", ["/v1/models", "/health/live", "/nowhere", "/admin/status"])
def test_key_in_the_url_is_refused(name: str, path: str, server: Running) -> None:
    answer = server.http.get(f"{path}?a=b&{name}={CANARY}")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (400, "key_in_address")
    assert "authorization: Bearer" in error["message"]
    assert CANARY not in answer.text + str(answer.headers)


@pytest.mark.parametrize("value", [f"Bearer {CANARY}", f"Basic {CANARY}", f"é{CANARY}"])
def test_key_in_a_header_is_not_reflected(value: str, server: Running) -> None:
    """The log is looked at when all is done."""
    assert CANARY.encode() not in spoken(server, whole(f"authorization: {value}"))


@pytest.mark.parametrize(
    "path",
    [
        f"/{CANARY}",
        f"/v1/models/%ff%fe{CANARY}",
        f"/v1/models/%00{CANARY}",
        f"/v1/models/..%2f..%2f{CANARY}",
        f"/v1/models/{'x' * 60_000}",
        f"/v1//models/{CANARY}",
        f"//{CANARY}/",
        f"/%c0%ae%c0%ae/{CANARY}",
        f"http://{CANARY}/v1/nothing",
        f"/v1/{CANARY}?{'a=b&' * 5000}",
        "*",
    ],
)
def test_unknown_paths_are_not_found(path: str, server: Running) -> None:
    got = spoken(server, get(path))
    assert statuses(got) == [404]
    assert error_of(got)["code"] in {"unknown_url", "model_not_found"}


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "PUT", "DELETE", "PATCH", "PROPFIND", "HEAD"])
@pytest.mark.parametrize("path", [CHATS, "/v1/models", "/inference"])
def test_other_methods_are_refused(method: str, path: str, server: Running) -> None:
    answer = server.http.request(method, path, headers={"x-canary": CANARY})
    assert CANARY not in answer.text
    if method == "HEAD":
        assert answer.status_code == (200 if path == "/v1/models" else 405)
        assert answer.content == b""
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")


def test_http_1_0_client_is_answered(server: Running) -> None:
    body = json.dumps(CHAT).encode()
    got = spoken(server, post(body, f"content-length: {len(body)}", version="1.0"))
    assert statuses(got) == [200]
    assert b"connection: close" in got


def test_pipelined_requests_are_answered_in_order(server: Running) -> None:
    live = b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n"
    assert statuses(spoken(server, live * 50 + whole())) == [200] * 51


def test_websocket_upgrade_is_answered_as_plain_http(server: Running) -> None:
    headers = ("upgrade: websocket", "connection: upgrade", "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==")
    assert statuses(spoken(server, get("/v1/models", *headers))) == [200]


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        (CHATS, b"[" * 1_000_000),
        (CHATS, b'{"a":' * 100_000),
        (CHATS, b'{"messages": [' + b'{"role": "' + CANARY.encode() + b'"},' * 500_000),
        (CHATS, b"1" * 5_000_000),
        (CHATS, json.dumps({**CHAT, "user": CANARY, "seed": 10**4000}).encode()),
        ("/batch", b"[" + b"1," * 5000 + b"1]"),
        ("/inference", b'{"type": "transcribe", "data": {"audio": "' + b"A" * (20 << 20) + b'"}}'),
        (CHATS, zlib.compress(bytes(1 << 20))),
    ],
)
def test_expensive_bodies_do_not_block_the_server(path: str, sent: bytes, server: Running) -> None:
    before = cpu_seconds(server)
    answer = server.http.post(path, content=sent, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500
    assert cpu_seconds(server) - before < 5
    assert CANARY not in answer.text


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """With a model that sees, which may fetch."""
    config = {**json.loads(preset("vision")), "server": {"remote_media": {"enabled": True}}}
    with serving(tmp_path_factory.mktemp("seeing"), json.dumps(config)) as running:
        yield running
        described = {"type": "describe_image", "data": {"image": data_url(picture())}}
        assert running.http.post("/inference", json=described).status_code == 200
        assert CANARY not in running.log.read_text()


@pytest.mark.model
def test_media_fetch_cannot_reach_private_addresses(seeing: Running) -> None:
    with socket.create_server(("127.0.0.1", 0)) as inside:
        port = inside.getsockname()[1]
        for host in ("127.0.0.1", "localhost", "[::1]", "169.254.169.254", "2130706433", "[::ffff:127.0.0.1]"):
            for url in (f"https://{host}/{CANARY}", f"https://{host}:{port}/{CANARY}", f"http://{host}:{port}/"):
                answer = seeing.http.post("/inference", json={"type": "describe_image", "data": {"image": url}})
                assert (answer.status_code, answer.json()["error"]["code"]) == (400, "media_not_fetched")
                assert CANARY not in answer.text
        inside.setblocking(False)
        with pytest.raises(BlockingIOError):
            inside.accept()


def frames(count: int) -> bytes:
    """A GIF that has so many."""
    one = picture("GIF", (1, 1))
    return one[:-1] + one[one.index(b",") : -1] * (count - 1) + b";"


def beside(name: bytes, data: bytes) -> bytes:
    """A picture that carries something more."""
    return picture()[:33] + chunk(name, data) + picture()[33:]


@pytest.mark.model
@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda: bomb(30_000, 30_000), id="pixels"),
        pytest.param(lambda: frames(500_000), id="frames"),
        pytest.param(lambda: beside(b"iCCP", b"a\0\0" + zlib.compress(bytes(256 << 20), 9)), id="colour profile"),
        pytest.param(lambda: beside(b"zTXt", b"a\0\0" + zlib.compress(bytes(256 << 20), 9)), id="text"),
    ],
)
def test_decompression_bomb_is_refused(made: Callable[[], bytes], seeing: Running) -> None:
    before, cpu_before = psutil.Process(seeing.pid).memory_info().rss, cpu_seconds(seeing)
    answer = seeing.http.post("/inference", json={"type": "describe_image", "data": {"image": data_url(made())}})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_image")
    assert cpu_seconds(seeing) - cpu_before < 5
    assert psutil.Process(seeing.pid).memory_info().rss - before < 100 << 20
    assert seeing.model("vision")["loads"] == 0


@pytest.mark.parametrize("value", [CANARY, "é", "", ",,,", "1.2.3.4:99999999", "[::1", "1.2.3.4, " * 5000])
def test_forwarded_client_address_is_ignored(value: str, server: Running) -> None:
    """Nobody is believed but proxies that the owner trusts."""
    got = spoken(server, whole(f"x-forwarded-for: {value}", f"x-forwarded-proto: {value[:100]}"))
    assert statuses(got) == [200]
    assert CANARY.encode() not in got


def test_forwarded_scheme_is_ignored(server: Running) -> None:
    """Or a page of another scheme were one of ours."""
    got = spoken(server, whole("origin: https://localhost", "x-forwarded-proto: https"))
    assert error_of(got)["code"] == "foreign_origin"


@pytest.mark.parametrize("path", ["/admin/models/llm/unload", CHATS, "/v1/files"])
def test_cross_site_requests_are_refused(path: str, server: Running) -> None:
    """Forms and plain text need no leave."""
    for origin in ("https://evil.example", "null", "http://localhost:3000"):
        got = spoken(
            server, post(b"{}", f"origin: {origin}", "content-length: 2", "content-type: text/plain", path=path)
        )
        assert error_of(got)["code"] == "foreign_origin"
        assert b"access-control" not in got


@pytest.mark.parametrize("host", [f"{CANARY}.example", "localhost.example", "169.254.169.254", "0.0.0.0:8000"])
def test_unknown_host_names_are_refused(host: str, server: Running) -> None:
    """As a page's own name does once its owner has it rebound."""
    raw = f"GET /v1/models HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode()
    assert error_of(spoken(server, raw))["code"] == "foreign_host"
