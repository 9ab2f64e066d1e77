"""Web pages that are not ours, and names that are not the server's."""

import time
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.fake_service import CANARY, CHAT, FakeService, as_asked
from cohabit.access.keys_file import Keyring
from cohabit.access.rate_limits import RateLimits
from cohabit.api.app import create_app
from cohabit.api.middleware.allowed_hosts import ANY_HOST, AllowedHosts, AllowedHostsMiddleware
from cohabit.api.middleware.auth import AuthConfig

Lines = list[MutableMapping[str, Any]]

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what a server may be told to listen on
LOOPBACK = AllowedHosts.of("127.0.0.1", [], [])
PAGE = "https://app.example.org"
LISTED = AllowedHosts.of("127.0.0.1", ["cohabit.lan", "192.0.2.7", "2001:db8::1"], [PAGE])
CHATS = "/v1/chat/completions"


@pytest.fixture
async def listed(service: FakeService) -> AsyncIterator[httpx2.AsyncClient]:
    """A server that one page may use."""
    transport = httpx2.ASGITransport(app=create_app(service, allowed_hosts=LISTED))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        yield client


async def asked(
    known: AllowedHosts, *headers: tuple[str, str], method: str = "POST", scheme: str = "http"
) -> str | None:
    """The code of the refusal of a request with these headers, or None."""
    let_in = []

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        let_in.append(True)

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("nothing is read")

    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    scope = {"type": "http", "method": method, "scheme": scheme, "headers": raw}
    await AllowedHostsMiddleware(app, known)(scope, receive, send)
    if let_in:
        assert sent == []
        return None
    assert sent[0]["status"] == 403
    body = sent[1]["body"].decode()
    assert CANARY not in body
    return "foreign_host" if "foreign_host" in body else "foreign_origin" if "foreign_origin" in body else body


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "localhost:8000", "LocalHost", "localhost.", "127.0.0.1", "127.0.0.1:8000", "127.1.2.3"),
        *("[::1]", "[::1]:8000", "[0:0:0:0:0:0:0:1]"),
    ],
)
async def test_loopback_names_are_allowed(host: str) -> None:
    assert await asked(LOOPBACK, ("host", host)) is None
    assert await asked(LISTED, ("host", host)) is None


@pytest.mark.parametrize(
    "host",
    [
        *(
            f"{CANARY}.example.org",
            "example.org:8000",
            "localhost.example.org",
            "127.0.0.1.nip.io",
            "localhost..",
            "",
        ),
        *(
            "192.168.1.5",
            "[2001:db8::2]",
            "::1",
            "[::1",
            "a:b:c",
            "localhost:8000:1",
            "localhost@evil",
            "é",
            EVERYWHERE,
        ),
        *("", "127.1", "2130706433", "localhost:a", "localhost, evil", "localhost/evil", "é"),
    ],
)
async def test_unknown_host_is_refused(host: str) -> None:
    assert await asked(LOOPBACK, ("host", host), method="GET") == "foreign_host"
    assert await asked(LISTED, ("host", host), method="GET") == "foreign_host"
    assert await asked(ANY_HOST, ("host", host), method="GET") is None


async def test_configured_hosts_are_allowed() -> None:
    for host in (
        "cohabit.lan",
        "COHABIT.LAN:443",
        "cohabit.lan.",
        "192.0.2.7:80",
        "[2001:db8::1]",
        "[2001:DB8:0::1]",
    ):
        assert await asked(LISTED, ("host", host)) is None
        assert await asked(LOOPBACK, ("host", host)) == "foreign_host"


async def test_each_of_several_hosts_must_be_known() -> None:
    assert await asked(LOOPBACK, ("host", "localhost"), ("host", "evil.example")) == "foreign_host"
    assert await asked(LOOPBACK, ("host", "evil.example"), ("host", "localhost")) == "foreign_host"
    assert await asked(LOOPBACK) is None, "HTTP/1.0 needs none"


@pytest.mark.parametrize(
    ("address", "hosts", "checked"),
    [
        ("127.0.0.1", [], True),
        ("127.0.0.9", [], True),
        ("::1", [], True),
        (EVERYWHERE, [], False),
        ("192.0.2.1", [], False),
        ("::", [], False),
        ("127.0.0.1", ["*"], False),
        (EVERYWHERE, ["cohabit.lan"], True),
        (EVERYWHERE, ["cohabit.lan", "*"], False),
    ],
)
def test_hosts_are_checked_on_loopback_or_when_configured(address: str, hosts: list[str], *, checked: bool) -> None:
    assert (AllowedHosts.of(address, hosts, []).hosts is not None) == checked


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "origin",
    [
        *(f"https://{CANARY}.example", "null", "", "http://localhost:3000", "https://localhost:8000", "file://"),
        *("http://127.0.0.1:8000", "http://localhost", "http://localhost:80000", "https://app.example.org.evil.org"),
    ],
)
async def test_page_of_another_origin_is_refused(method: str, origin: str) -> None:
    """Another port of this machine is another origin too."""
    for known in (LOOPBACK, LISTED, ANY_HOST):
        headers = (("host", "localhost:8000"), ("origin", origin))
        assert await asked(known, *headers, method=method) == "foreign_origin"


async def test_own_and_listed_pages_are_allowed() -> None:
    here = ("host", "localhost:8000")
    assert await asked(LOOPBACK, here, ("origin", "http://localhost:8000")) is None
    assert await asked(LOOPBACK, here, ("origin", "https://localhost:8000"), scheme="https") is None
    assert await asked(LOOPBACK, here, ("origin", PAGE)) == "foreign_origin"
    assert await asked(LISTED, here, ("origin", PAGE), ("sec-fetch-site", "cross-site")) is None
    assert await asked(AllowedHosts.of("127.0.0.1", [], ["*"]), here, ("origin", "null")) is None
    assert await asked(LOOPBACK, ("origin", "http://localhost:8000")) == "foreign_origin", "of whom is not known"


@pytest.mark.parametrize("known", [LISTED, AllowedHosts.of("127.0.0.1", [], ["*"])])
async def test_page_may_send_its_own_key_but_not_remembered_credentials(known: AllowedHosts) -> None:
    headers = [("host", "localhost"), ("origin", PAGE)]
    assert await asked(known, *headers, ("authorization", "Bearer a")) is None
    assert await asked(known, *headers, ("authorization", "Basic YTpi")) == "foreign_origin"
    assert await asked(known, headers[0], ("origin", "http://localhost"), ("authorization", "Basic YTpi")) is None
    assert await asked(known, headers[0], ("authorization", "Basic YTpi")) is None


@pytest.mark.parametrize(
    ("site", "method", "code"),
    [
        ("cross-site", "POST", "foreign_origin"),
        ("cross-site", "DELETE", "foreign_origin"),
        ("cross-site", "GET", None),
        ("same-origin", "POST", None),
        ("none", "POST", None),
    ],
)
async def test_sec_fetch_site_is_checked_without_an_origin(site: str, method: str, code: str | None) -> None:
    assert await asked(LISTED, ("host", "localhost"), ("sec-fetch-site", site), method=method) == code


@pytest.mark.parametrize("path", ["/admin/models/llm/unload", CHATS, "/nowhere"])
async def test_unlisted_page_gets_no_answer(
    path: str, http: httpx2.AsyncClient, service: FakeService, logged: Lines
) -> None:
    answer = await http.post(path, content=CANARY, headers={"origin": "https://a.b", "content-type": "text/plain"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_origin")
    assert answer.headers["x-request-id"] == logged[-1]["id"]
    assert not any(name.startswith("access-control") for name in answer.headers)
    assert service.calls == []


async def test_listed_page_can_read_answers(listed: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    answer = await listed.post(CHATS, json=CHAT, headers={"origin": PAGE})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["vary"] == "Origin"
    assert "access-control-allow-credentials" not in answer.headers
    exposed = answer.headers["access-control-expose-headers"].split(", ")
    ours = {name for name in answer.headers if name.startswith("x-")}
    assert ours <= set(exposed)
    assert len(ours) > 3


@pytest.mark.parametrize(
    ("path", "status"),
    [("/nowhere", 404), (CHATS, 400), ("/v1/models?api_key=a", 400), ("/admin/models/nobody/load", 404)],
)
async def test_listed_page_can_read_errors(path: str, status: int, listed: httpx2.AsyncClient) -> None:
    answer = await listed.post(path, content=b"{", headers={"origin": PAGE})
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == PAGE


async def test_listed_page_can_read_unexpected_errors(listed: httpx2.AsyncClient, service: FakeService) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(CANARY)

    service.reply = broken
    answer = await listed.post(CHATS, json=CHAT, headers={"origin": PAGE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (500, PAGE)


def preflight(origin: str, method: str = "POST") -> dict[str, str]:
    return {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
        "access-control-request-private-network": "true",
    }


async def test_preflight_is_answered(listed: httpx2.AsyncClient) -> None:
    answer = await listed.options(CHATS, headers=preflight(PAGE))
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert "authorization" in answer.headers["access-control-allow-headers"]
    assert "DELETE" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-private-network"] == "true"


async def test_preflight_needs_no_key(service: FakeService, tmp_path: Path) -> None:
    """A browser sends none with its question, and a page can read that one is needed."""
    auth = AuthConfig(Keyring(tmp_path / "keys.json"), RateLimits(time.monotonic))
    transport = httpx2.ASGITransport(app=create_app(service, allowed_hosts=LISTED, auth=auth))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
        assert (await client.options(CHATS, headers=preflight(PAGE))).status_code == 200
        answer = await client.post(CHATS, json=CHAT, headers={"origin": PAGE})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, PAGE)
        assert (await client.options(CHATS, headers={"origin": PAGE})).status_code == 401, (
            "no question of a browser's"
        )


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        (preflight("https://evil.example"), 403, "foreign_origin"),
        (preflight(PAGE, CANARY), 405, "method_not_allowed"),
        ({"origin": PAGE}, 405, "method_not_allowed"),
        ({}, 405, "method_not_allowed"),
    ],
)
async def test_refused_preflight_has_an_error_in_our_shape(
    headers: dict[str, str], status: int, code: str, listed: httpx2.AsyncClient, logged: Lines
) -> None:
    answer = await listed.options(CHATS, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert CANARY not in answer.text + str(logged)
    assert len(logged) == 1
    assert ("access-control-allow-origin" in answer.headers) == (headers == {"origin": PAGE})


async def test_preflight_is_refused_without_a_list(http: httpx2.AsyncClient) -> None:
    answer = await http.options(CHATS, headers=preflight(PAGE))
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "foreign_origin")
