"""Where keys are on nobody comes in without one, and whoever has one as far as it goes."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Iterator, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.routing import APIRoute
from starlette.types import Message, Receive, Scope, Send

from api.driving import CANARY, CHAT, CHAT_ANSWER, Exchange, FakeService, Served, as_asked, at_once
from cohabit.access.keyfile import editing
from cohabit.access.keyring import Keyring
from cohabit.access.keys import NOBODY, Key, digest_of
from cohabit.api.access import Access
from cohabit.api.app import App, create_app
from cohabit.batches.calls import Caller
from cohabit.protocol.tasks import Task

Lines = list[MutableMapping[str, Any]]

SECRETS = {name: f"cohabit_{CANARY}-{name}" for name in ("user", "boss", "chatty", "slow", "single", "revoked")}
LIMITS: dict[str, dict[str, Any]] = {
    "user": {},
    "boss": {"admin": True},
    "chatty": {"models": ("gpt-4o-mini", "labels")},
    "slow": {"requests_per_minute": 2},
    "single": {"concurrent": 1},
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")
UNKNOWN: tuple[str, ...] = ("/", "/nowhere", "/v1", "/v1/", "/docs/", "/docs/../docs", "//docs", "/health", "/admin")
UNKNOWN += ("/health/", "/health/live/", "/admin/", "/admin/nowhere", "/metrics/", "/docs/swagger-ui.css", "/%ff")
UNKNOWN += ("/openapi.json", "/redoc", "/health/live%0A", "/metrics%0A", "/docs/nothing.js", "/V1/models")


def bearer(name: str) -> dict[str, str]:
    return {"authorization": f"Bearer {SECRETS[name]}"}


def basic(text: str) -> dict[str, str]:
    return {"authorization": f"Basic {base64.b64encode(text.encode()).decode()}"}


@pytest.fixture
def keyring(tmp_path: Path) -> Keyring:
    with editing(tmp_path / "keys.json") as keys:
        for name, limits in LIMITS.items():
            keys[name] = Key(name=name, digest=digest_of(SECRETS[name].encode()), **limits)
    return Keyring(tmp_path / "keys.json")


@pytest.fixture
def app(service: FakeService, keyring: Keyring) -> App:
    service.reply = as_asked
    return create_app(service, "1.2.3", keyring=keyring)


@asynccontextmanager
async def client(app: App) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as made:
        yield made


def routes(app: App) -> Iterator[str]:
    """The address of every route, with something where it wants it; then some that are none."""
    for route in app.routes:
        path = getattr(route, "path", "")
        assert path, f"{route} is something new: is it walked too?"
        yield re.sub(r"\{[^}]*\}", "llm", path)
    yield from UNKNOWN


def test_the_walk_sees_every_route(app: App) -> None:
    walked = set(routes(app))
    assert {"/v1/chat/completions", "/inference", "/batch", "/v1/files/llm/content", "/docs/llm"} < walked
    assert {"/admin/models/llm/load", "/admin/events", "/metrics", "/health/live"} < walked
    assert len([route for route in app.routes if isinstance(route, APIRoute)]) > 30


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"authorization": f"Bearer {CANARY}"}, "invalid_api_key"),
        (bearer("revoked"), "invalid_api_key"),
        (basic(f"user:{CANARY}"), "invalid_api_key"),
    ],
    ids=["none", "wrong", "revoked", "wrong password"],
)
async def test_nothing_answers_without_a_key(
    headers: dict[str, str], code: str, *, app: App, served: Served, logged: Lines
) -> None:
    service, http = served.service, served.http
    for path in routes(app):
        for method in METHODS:
            answer = await http.request(method, path, headers=headers, json=CHAT)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"] == 'Basic realm="cohabit", charset="UTF-8", Bearer'
            assert answer.headers["x-request-id"]
            if method != "HEAD":  # whose answer has no body
                error = answer.json()["error"]
                assert (error["code"], error["type"]) == (code, "authentication_error")
            assert CANARY not in answer.text + str(answer.headers)
    assert not service.calls
    assert not service.told
    assert CANARY not in str(logged)
    assert all("key" not in line for line in logged)


async def test_the_owners_routes_need_an_admin_key(app: App, http: httpx2.AsyncClient, service: FakeService) -> None:
    owners = [path for path in routes(app) if path.startswith(("/admin", "/metrics"))]
    assert len(owners) >= 14
    for path in owners:
        for method in METHODS:
            answer = await http.request(method, path, headers=bearer("user"))
            assert answer.status_code == 403, (method, path)
            assert method == "HEAD" or answer.json()["error"]["code"] == "admin_key_required"
    assert not service.told
    assert (await http.get("/metrics", headers=bearer("boss"))).status_code == 200
    assert (await http.get("/admin/status", headers=bearer("boss"))).status_code == 200
    assert (await http.post("/admin/models/llm/load", headers=bearer("boss"))).status_code == 200
    assert (await http.post("/v1/chat/completions", json=CHAT, headers=bearer("boss"))).status_code == 200


async def test_the_rest_does_not(app: App, http: httpx2.AsyncClient) -> None:
    for path in routes(app):
        if not path.startswith(("/admin", "/metrics")):
            assert (await http.get(path, headers=bearer("user"))).status_code not in {401, 403}, path


KEY = SECRETS["user"]


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer   {KEY} "},
        {"x-api-key": KEY},
        {"api-key": KEY},
        basic(f":{KEY}"),
        basic(f"anybody:{KEY}"),
    ],
)
async def test_ways_to_send_a_key(headers: dict[str, str], http: httpx2.AsyncClient, logged: Lines) -> None:
    assert (await http.get("/docs", headers=headers)).status_code == 200
    assert logged[-1]["key"] == "user"
    assert CANARY not in str(logged)


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", KEY)],
        [("authorization", f"Token {KEY}")],
        [("authorization", f"Bearer {KEY},")],
        [("authorization", f"Bearer {KEY} {KEY}")],
        [("authorization", f"Basic {KEY}")],
        [("authorization", "Basic é")],
        [("authorization", f"Basic {base64.b64encode(KEY.encode()).decode()}")],
        [("x-api-key", f"Bearer {KEY}")],
        [("x-api-key", "")],
        [("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {KEY}")],
        [("authorization", f"Bearer {KEY}"), ("x-api-key", KEY)],
        [("authorization", "Bearer wrong"), ("api-key", KEY)],
        [("api-key", digest_of(KEY.encode()))],
    ],
)
async def test_what_is_no_key_or_several(
    headers: list[tuple[str, str]], http: httpx2.AsyncClient, service: FakeService, logged: Lines
) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    answer = await http.post("/v1/chat/completions", json=CHAT, headers=raw)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert not service.calls
    assert CANARY not in answer.text + str(logged)


async def test_health_may_be_open(service: FakeService, keyring: Keyring) -> None:
    app = create_app(service, keyring=keyring, open_health=True)
    async with client(app) as http:
        for path in routes(app):
            answer = await http.get(path)
            assert (answer.status_code == 200) == (path in {"/health/live", "/health/ready"}), path
            assert answer.status_code in {200, 401}


async def test_a_key_in_the_address_is_told_so(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/v1/models", params={"api_key": KEY})
    assert answer.json()["error"]["code"] == "key_in_address"


async def test_fairness_is_between_keys(http: httpx2.AsyncClient, service: FakeService, logged: Lines) -> None:
    for name in ("user", "boss"):
        await http.post("/v1/chat/completions", json=CHAT, headers=bearer(name))
    assert [call.client for call in service.calls] == ["user", "boss"]
    assert [line["key"] for line in logged] == ["user", "boss"]


async def test_without_keys_nothing_of_this_is_there(service: FakeService, logged: Lines) -> None:
    service.reply = as_asked
    async with client(create_app(service)) as http:
        answer = await http.post("/v1/chat/completions", json=CHAT, headers={"authorization": "Bearer none"})
        document = (await http.get("/openapi.json")).json()
    assert answer.status_code == 200
    assert service.calls[0].client == "127.0.0.1"
    assert "key" not in logged[0]
    assert "security" not in document


async def test_so_many_a_minute(http: httpx2.AsyncClient, service: FakeService, logged: Lines) -> None:
    answers = [await http.get("/v1/models", headers=bearer("slow")) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    error = answers[2].json()["error"]
    assert (error["code"], error["type"]) == ("rate_limit_exceeded", "rate_limit_error")
    assert 55 <= int(answers[2].headers["retry-after"]) <= 60
    assert logged[-1]["key"] == "slow"
    assert (await http.get("/v1/models", headers=bearer("user"))).status_code == 200


async def test_a_stream_counts_until_it_has_ended(app: App, http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = at_once(CHAT_ANSWER)
    body = {**CHAT, "stream": True}
    async with Exchange(app, "/v1/chat/completions", body, headers=bearer("single")) as exchange:
        exchange.stop_reading()
        await exchange.until(1)
        refused = await http.get("/v1/models", headers=bearer("single"))
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "too_many_concurrent"
        assert refused.headers["retry-after"] == "1"
        exchange.read_on()
        await exchange.ended()
    assert exchange.complete
    assert (await http.get("/v1/models", headers=bearer("single"))).status_code == 200


async def test_who_hangs_up_no_longer_counts(app: App, http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = lambda call, answer: service.asked.put_nowait((call, answer))
    async with Exchange(app, "/v1/chat/completions", CHAT, headers=bearer("single")) as exchange:
        await service.asked.get()
        assert (await http.get("/v1/models", headers=bearer("single"))).status_code == 429
        exchange.leave()
        await exchange.ended()
    assert (await http.get("/v1/models", headers=bearer("single"))).status_code == 200


async def test_one_that_fails_no_longer_counts(service: FakeService, keyring: Keyring) -> None:
    async def broken(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise ZeroDivisionError

    async def unsent(_message: Message) -> None:
        raise AssertionError("it is refused")

    access = Access(broken, keyring, open_health=False)
    for _ in range(2):
        scope: dict[str, Any] = {"type": "http", "path": "/", "headers": [(b"api-key", SECRETS["single"].encode())]}
        with pytest.raises(ZeroDivisionError):
            await access(scope, asyncio.Queue[Message]().get, unsent)


REFUSED = {
    "message": "this key may not use that model; it may use llm, labels",
    "type": "permission_error",
    "param": "model",
    "code": "model_not_allowed",
}


async def test_only_its_models(http: httpx2.AsyncClient, service: FakeService) -> None:
    headers = bearer("chatty")
    listed = (await http.get("/v1/models", headers=headers)).json()["data"]
    assert [entry["id"] for entry in listed] == ["llm", "gpt-4o-mini", "labels"]
    for model in ("llm", "gpt-4o-mini"):
        answer = await http.post("/v1/chat/completions", json={**CHAT, "model": model}, headers=headers)
        assert answer.status_code == 200
    calls = len(service.calls)
    asked = {"type": "embed", "data": {"text": "a"}, "model": "embeddings"}
    for answer in (
        await http.get("/v1/models/tts-1", headers=headers),
        await http.post("/v1/chat/completions", json={**CHAT, "model": "seer"}, headers=headers),
        await http.post("/v1/embeddings", json={"model": "embeddings", "input": "a"}, headers=headers),
        await http.post("/v1/responses", json={"model": "seer", "input": "a"}, headers=headers),
        await http.post("/v1/audio/speech", json={"model": "tts-1", "input": "a", "voice": "heart"}, headers=headers),
        await http.post("/v1/audio/transcriptions", data={"model": "stt"}, files={"file": b"a"}, headers=headers),
        await http.post("/inference", json=asked, headers=headers),
    ):
        assert answer.status_code == 403
        assert answer.json()["error"] == REFUSED
    answer = await http.post("/batch", json=[asked], headers=headers)
    assert answer.json()["results"][0]["error"] == REFUSED
    assert len(service.calls) == calls


async def test_no_others_are_named_or_taken(http: httpx2.AsyncClient, service: FakeService) -> None:
    headers = bearer("chatty")
    unknown = await http.post("/v1/chat/completions", json={**CHAT, "model": CANARY}, headers=headers)
    assert unknown.json()["error"]["message"] == "there is no such model; configured are llm, labels"
    unnamed = await http.post("/inference", json={"type": "embed", "data": {"text": "a"}}, headers=headers)
    assert unnamed.json()["error"]["code"] == "unsupported_task"
    wrong = await http.post("/v1/embeddings", json={"model": "llm", "input": "a"}, headers=headers)
    assert wrong.json()["error"]["message"] == "llm cannot make embeddings; no model can make embeddings"
    assert not service.calls
    chat = await http.post("/inference", json={"type": "chat", "data": {"prompt": "a"}}, headers=headers)
    assert chat.status_code == 200
    assert service.calls[0].model == "llm"


async def asked(app: App, url: str, key: Key) -> int:
    """One line of a batch."""
    body = b'{"model": "embeddings", "input": "a"}'
    said = await Caller(app).ask(url, body, client="batch_1", seconds=9, state={"key": key, "background": True})
    return said.status


async def test_a_line_of_a_batch_comes_with_its_proof(app: App, service: FakeService) -> None:
    limited = Key(name="slow", digest="", requests_per_minute=1, concurrent=1)
    for _ in range(3):
        assert await asked(app, "/v1/embeddings", limited) == 200
    assert await asked(app, "/v1/embeddings", NOBODY) == 200
    assert await asked(app, "/v1/embeddings", Key(name="a", digest="", models=("llm",))) == 403
    assert [call.client for call in service.calls] == ["slow"] * 3 + [""]
    assert all(call.task is Task.EMBED and call.background for call in service.calls)


async def test_no_client_can_bring_that_proof(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/v1/models", headers={"key": "boss", "state": "key", "x-key": "boss"})
    assert answer.status_code == 401


async def test_the_document_says_how(http: httpx2.AsyncClient) -> None:
    document = (await http.get("/openapi.json", headers=bearer("user"))).json()
    schemes = document["components"]["securitySchemes"]
    assert {name: scheme["scheme"] for name, scheme in schemes.items()} == {"key": "bearer", "browser": "basic"}
    assert document["security"] == [{"key": []}, {"browser": []}]
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert {"401", "403", "429"} <= set(operation["responses"]), path
            assert "www-authenticate" in operation["responses"]["401"]["headers"]
            assert "retry-after" in operation["responses"]["429"]["headers"]
