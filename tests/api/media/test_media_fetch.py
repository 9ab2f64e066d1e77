"""Pictures and sound at addresses elsewhere: off unless the owner says so, and never an arm into the owner's network.

The server at the other end is real, with TLS. Only its address is not: the name servers and the internet between are
a table in the test.
"""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.fake_service import CANARY, FakeService, as_asked
from cohabit.api import bodies
from cohabit.api.app import create_app
from cohabit.api.errors import BadRequest
from cohabit.api.media.media_fetch import RemoteMedia
from cohabit.api.media.media_inputs import MAX_ADDRESSES
from cohabit.config.model import RemoteMediaConfig
from samples import clean_picture, clean_sound, data_url, picture, tone

PUBLIC, ALSO_PUBLIC, PRIVATE = "93.184.216.34", "2606:2800:220:1::1", "10.0.0.7"
MOST = 100_000
PLACE = "messages.0.content.0.image_url.url"
SITE: dict[str, bytes] = {
    "/a.png": b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: %d\r\n\r\n%b"
    % (len(picture()), picture()),
    "/a.wav": b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n%b" % tone(),
    "/text": b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: 4\r\n\r\ntext",
    "/declared": b"HTTP/1.1 200 OK\r\ncontent-length: 100001\r\n\r\n",
    "/undeclared": b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n" + bytes(200_000),
    "/cut": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nab",
    "/missing": b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
    "/noise": b"\x00\x01\x02\r\n\r\n",
    "/loop": b"HTTP/1.1 302 Found\r\nlocation: /loop\r\ncontent-length: 0\r\n\r\n",
    "/moved": b"HTTP/1.1 301 Moved\r\nlocation: /a.png\r\ncontent-length: 0\r\n\r\n",
    "/inwards": b"HTTP/1.1 302 Found\r\nlocation: https://inside.example/a.png\r\ncontent-length: 0\r\n\r\n",
    "/plain": b"HTTP/1.1 302 Found\r\nlocation: http://pictures.example/a.png\r\ncontent-length: 0\r\n\r\n",
    "/odd": b"HTTP/1.1 302 Found\r\nlocation: https://h:port/\r\ncontent-length: 0\r\n\r\n",
}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a key and a certificate for pictures.example, signed by itself."""
    path = tmp_path_factory.mktemp("tls") / "pictures.pem"
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-subj", "/CN=pictures", "-addext", "subjectAltName=DNS:pictures.example", "-days", "2"]
    subprocess.run([*made, "-keyout", path, "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


class Elsewhere:
    """The internet: who has which addresses, and the one server that stands behind all of them."""

    def __init__(self) -> None:
        self.names: dict[str, list[str]] = {
            "pictures.example": [PUBLIC],
            "inside.example": [PRIVATE],
            "both.example": [PUBLIC, PRIVATE],
            "other.example": [PUBLIC],
        }
        self.looked_up: list[str] = []
        self.connected: list[str] = []
        self.requests: list[bytes] = []
        self.told_names: list[str] = []
        self.drip = asyncio.Event()
        self.port = 0  # on this machine

    async def resolve(self, host: str) -> list[str]:
        self.looked_up.append(host)
        return self.names.get(host, [])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        path = head.split()[1].decode()
        if path == "/drip":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nx")
            await writer.drain()
            await self.drip.wait()
        else:
            writer.write(SITE[path])
        writer.close()


class Routed(httpx2.AsyncBaseTransport):
    """A real transport, but that public addresses are on this machine."""

    def __init__(self, elsewhere: Elsewhere, trusted: ssl.SSLContext) -> None:
        self._elsewhere = elsewhere
        alone = httpx2.Limits(max_keepalive_connections=0)
        self._real = httpx2.AsyncHTTPTransport(verify=trusted, trust_env=False, limits=alone)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self._elsewhere.connected.append(request.url.host)
        if request.url.host == ALSO_PUBLIC:
            raise httpx2.ConnectError("no route")
        assert request.url.host == PUBLIC, "only an address that was looked at"
        request.url = request.url.copy_with(host="127.0.0.1", port=self._elsewhere.port)
        return await self._real.handle_async_request(request)

    async def aclose(self) -> None:
        await self._real.aclose()


class Setting:
    """An app that may fetch, a client of it, and what it fetches from."""

    def __init__(self, http: httpx2.AsyncClient, service: FakeService, elsewhere: Elsewhere) -> None:
        self.http = http
        self.service = service
        self.elsewhere = elsewhere

    async def chat(self, *urls: str) -> httpx2.Response:
        return await self.http.post("/v1/chat/completions", json={"model": "seer", "messages": pointing(*urls)})

    async def refused(self, url: str) -> str:
        """Why, the place taken off."""
        answer = await self.chat(url)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert (error["param"], error["code"]) == (PLACE, "media_not_fetched")
        assert not self.service.calls
        assert CANARY not in answer.text
        message: str = error["message"]
        return message.removeprefix(f"{PLACE} ")


def pointing(*urls: str) -> list[dict[str, Any]]:
    """The messages of a chat with pictures at these."""
    parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return [{"role": "user", "content": parts}]


@pytest.fixture
def config() -> dict[str, Any]:
    """What a test may change before the app is made."""
    return {"enabled": True, "max_bytes": MOST, "timeout": 5.0}


@pytest.fixture
async def setting(config: dict[str, Any], certificate: Path) -> AsyncIterator[Setting]:
    elsewhere = Elsewhere()
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(certificate)

    def noted(_socket: object, name: str, _context: object) -> None:
        elsewhere.told_names.append(name)

    ours.sni_callback = noted
    server = await asyncio.start_server(elsewhere.serve, "127.0.0.1", 0, ssl=ours)
    trusted = ssl.create_default_context(cafile=certificate)
    service = FakeService()
    service.reply = as_asked
    elsewhere.port = server.sockets[0].getsockname()[1]
    routed = Routed(elsewhere, trusted)
    media = RemoteMedia(RemoteMediaConfig(**config), resolve=elsewhere.resolve, transport=routed)
    transport = httpx2.ASGITransport(app=create_app(service, remote=media))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
        yield Setting(http, service, elsewhere)
    elsewhere.drip.set()
    await routed.aclose()
    server.close()
    await server.wait_closed()


async def test_fetching_is_off_by_default_and_says_how_to_enable_it(
    http: httpx2.AsyncClient, service: FakeService
) -> None:
    address = f"https://{CANARY}.example/a.png"
    for path, body in (
        ("/v1/chat/completions", {"model": "seer", "messages": pointing(address)}),
        ("/inference", {"type": "describe_image", "data": {"image": address}}),
        ("/inference", {"type": "transcribe", "data": {"audio": address.upper()}}),
    ):
        answer = await http.post(path, json=body)
        assert answer.status_code == 400
        assert "server.remote_media.enabled" in answer.json()["error"]["message"]
        assert answer.json()["error"]["code"] == "media_not_fetched"
        assert CANARY not in answer.text
    assert not service.calls


async def test_engine_gets_the_picture_and_never_its_url(setting: Setting) -> None:
    own = picture(size=(8, 8))
    assert (await setting.chat("https://pictures.example/a.png", data_url(own))).status_code == 200
    (call,) = setting.service.calls
    assert data_url(clean_picture(picture())).encode() in call.body
    assert data_url(clean_picture(own)).encode() in call.body
    assert b"pictures.example" not in call.body
    assert setting.elsewhere.connected == [PUBLIC]
    assert setting.elsewhere.told_names == ["pictures.example"]
    (head,) = setting.elsewhere.requests
    assert b"\r\nhost: pictures.example\r\n" in head.lower()
    assert b"accept-encoding: identity" in head.lower()
    assert PUBLIC.encode() not in head


async def test_inference_fetches_pictures(setting: Setting) -> None:
    for kind, data in (
        ("describe_image", {"image": "https://pictures.example/a.png"}),
        ("chat", {"messages": pointing("https://pictures.example/a.png")}),
    ):
        answer = await setting.http.post("/inference", json={"type": kind, "data": data})
        assert answer.status_code == 200, answer.text
        body = setting.service.calls[-1].body
        assert data_url(clean_picture(picture())).encode() in body
        assert b"pictures.example" not in body
    data = {"audio": "https://pictures.example/a.wav"}
    assert (await setting.http.post("/inference", json={"type": "transcribe", "data": data})).status_code == 200
    assert setting.service.calls[-1].blobs == {"file": clean_sound(tone())}


async def test_responses_fetch_pictures(setting: Setting) -> None:
    own = picture(size=(8, 8))
    parts = [{"type": "input_image", "image_url": url} for url in ("https://pictures.example/a.png", data_url(own))]
    body = {"model": "seer", "input": [{"role": "user", "content": parts}]}
    assert (await setting.http.post("/v1/responses", json=body)).status_code == 200
    (call,) = setting.service.calls
    for data in (picture(), own):
        assert data_url(clean_picture(data)).encode() in call.body
    assert b"pictures.example" not in call.body


async def test_redirect_is_followed(setting: Setting) -> None:
    assert (await setting.chat("https://pictures.example/moved")).status_code == 200
    assert setting.elsewhere.looked_up == ["pictures.example"] * 2, "each step is checked anew"


async def test_next_address_of_a_name_is_tried(setting: Setting) -> None:
    setting.elsewhere.names["pictures.example"] = [ALSO_PUBLIC, PUBLIC]
    assert (await setting.chat("https://pictures.example/a.png")).status_code == 200
    assert setting.elsewhere.connected == [ALSO_PUBLIC, PUBLIC]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://pictures.example/a.png", "must be an https URL or a data URL"),
        (f"file:///etc/{CANARY}", "must be an https URL or a data URL"),
        ("ftp://pictures.example/a.png", "must be an https URL or a data URL"),
        ("https:///a.png", "must be an https URL or a data URL"),
        (f"https://{CANARY}:secret@pictures.example/a.png", "holds credentials"),
        ("https://pictures.example:8443/a.png", "names a port; only port 443 is fetched from"),
        ("https://pictures.example:port/a.png", "is not a valid URL"),
        ("https://[::1/a.png", "is not a valid URL"),
        (f"https://{CANARY}.example/a.png", "is not on a host whose addresses are all public"),
        ("https://inside.example/a.png", "is not on a host whose addresses are all public"),
        ("https://both.example/a.png", "is not on a host whose addresses are all public"),
        ("https://pictures.example/plain", "must be an https URL or a data URL"),
        ("https://pictures.example/inwards", "is not on a host whose addresses are all public"),
        ("https://pictures.example/odd", "redirects to an invalid URL"),
        ("https://pictures.example/loop", "has too many redirects"),
        ("https://other.example/a.png", "could not be fetched: no connection, or no valid certificate for that host"),
        ("https://pictures.example/declared", "is larger than 97 KiB, the maximum that is fetched"),
        ("https://pictures.example/undeclared", "is larger than 97 KiB, the maximum that is fetched"),
        ("https://pictures.example/cut", "could not be fetched: the connection was lost"),
        ("https://pictures.example/missing", "could not be fetched: its server answered 404"),
        ("https://pictures.example/noise", "could not be fetched: no connection"),
    ],
)
async def test_forbidden_urls_are_refused(url: str, why: str, setting: Setting) -> None:
    assert (await setting.refused(url)).startswith(why)
    assert PRIVATE not in setting.elsewhere.connected


async def test_content_type_of_the_server_is_not_trusted(setting: Setting) -> None:
    answer = await setting.chat("https://pictures.example/text")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_image")


async def test_dns_rebinding_gains_nothing(setting: Setting) -> None:
    answers = iter([[PUBLIC], [PRIVATE]])

    async def rebinding(_host: str) -> list[str]:
        return next(answers)

    setting.elsewhere.names = {}
    media = setting.http._transport.app.state.remote  # type: ignore[attr-defined]  # the app under the client
    media._resolve = rebinding
    assert (await setting.chat("https://pictures.example/a.png")).status_code == 200
    assert setting.elsewhere.connected == [PUBLIC], "the address that was checked, not a second answer"
    assert next(answers) == [PRIVATE], "nobody has asked again"


@pytest.mark.parametrize("config", [{"enabled": True, "timeout": 0.2}])
async def test_slow_fetch_is_given_up(setting: Setting) -> None:
    assert await setting.refused("https://pictures.example/drip") == "could not be fetched within 0.2 seconds"


@pytest.mark.parametrize("config", [{"enabled": True, "allow_hosts": ["example.org", "Pictures.example"]}])
@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://pictures.example/a.png", True),
        ("https://other.example/a.png", False),
        ("https://notpictures.example/a.png", False),
    ],
)
async def test_allowed_hosts_are_fetched_from_only(url: str, allowed: bool, setting: Setting) -> None:  # a parameter
    if allowed:
        assert (await setting.chat(url)).status_code == 200
    else:
        assert "server.remote_media.allow_hosts" in await setting.refused(url)
        assert not setting.elsewhere.looked_up


async def test_urls_in_a_request_are_limited(setting: Setting) -> None:
    url = "https://pictures.example/a.png"
    assert (await setting.chat(*[url] * MAX_ADDRESSES)).status_code == 200
    answer = await setting.chat(*[url] * (MAX_ADDRESSES + 1))
    assert "is one URL too many" in answer.json()["error"]["message"]
    items = [{"type": "describe_image", "data": {"image": url}}] * (MAX_ADDRESSES + 2)
    results = (await setting.http.post("/batch", json=items)).json()["results"]
    assert [set(result) for result in results] == [{"result"}] * MAX_ADDRESSES + [{"error"}] * 2


async def test_fetched_pictures_count_for_the_size_of_the_body(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "MAX_SENT", 300)
    answer = await setting.chat("https://pictures.example/a.png")
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    assert not setting.service.calls


async def test_untrusted_certificate_is_refused(setting: Setting) -> None:
    """By the way that is made where the test gives none."""
    url = f"https://127.0.0.1:{setting.elsewhere.port}/a.png"
    request = httpx2.Request("GET", url, extensions={"sni_hostname": "pictures.example"})
    way = RemoteMedia(RemoteMediaConfig(enabled=True))._way()
    with pytest.raises(httpx2.ConnectError, match="certificate"):
        await way.handle_async_request(request)
    await way.aclose()


async def test_transport_keeps_no_connection_and_ignores_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []

    def dead(**how: Any) -> httpx2.AsyncBaseTransport:
        made.append(how)
        return _Dead()

    monkeypatch.setattr(httpx2, "AsyncHTTPTransport", dead)
    media = RemoteMedia(RemoteMediaConfig(enabled=True), resolve=lambda _host: _soon([PUBLIC]))
    with pytest.raises(BadRequest, match="could not be fetched"):
        await media.fetch("https://pictures.example/a.png", "p")
    (how,) = made
    assert how["trust_env"] is False
    assert how["limits"].max_keepalive_connections == 0
    assert "verify" not in how, "certificates are checked"


class _Dead(httpx2.AsyncBaseTransport):
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("no")


async def _soon(found: list[str]) -> list[str]:
    return found
