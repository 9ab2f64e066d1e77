"""With keys on no route answers without one."""

import asyncio
import base64
import itertools
import json
from collections.abc import AsyncIterator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from api.batch_store_app import opened
from api.fake_service import CHAT, EMBED_ANSWER, FakeService, as_asked
from cohabit.access.keys import Key, digest_of, new_secret
from cohabit.access.keys_file import LOOK_EVERY, Keyring, edited
from cohabit.access.rate_limits import RateLimits
from cohabit.api.app import create_app
from cohabit.api.middleware.auth import AuthConfig
from cohabit.api.routing import Endpoint
from cohabit.batches.asgi_client import AsgiClient
from cohabit.runtime.requests import ModelRequest, ResponseStream
from harness import PATIENCE

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
EMBED = {"model": "embeddings", "input": "x"}


class Opened:
    """An app with keys, and their secrets by name."""

    def __init__(self, service: FakeService, path: Path, *, open_health: bool = False) -> None:
        self.service = service
        self.path = path
        self.secrets: dict[str, str] = {}
        self.now = 0.0
        self.add("ann")
        self.add("bob", models=("embeddings",))
        self.add("carl", requests_per_minute=2)
        self.add("dora", concurrent=1)
        self.add("root", admin=True)
        keyring = Keyring(path, self.clock)
        auth = AuthConfig(keyring, RateLimits(self.clock), open_health=open_health)
        self.app: Starlette = create_app(service, "1", auth=auth)
        self.http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=self.app), base_url="http://test")

    def clock(self) -> float:
        return self.now

    def add(self, name: str, **limits: Any) -> None:
        self.secrets[name] = new_secret()
        with edited(self.path) as keys:
            keys[name] = Key(name=name, digest=digest_of(self.secrets[name]), created=1, **limits)

    def of(self, name: str) -> dict[str, str]:
        """The header of a key."""
        return {"authorization": f"Bearer {self.secrets[name]}"}


@pytest.fixture
async def locked(service: FakeService, tmp_path: Path) -> AsyncIterator[Opened]:
    service.reply = as_asked
    made = Opened(service, tmp_path / "keys.json")
    yield made
    await made.http.aclose()


def paths(app: Starlette) -> Iterator[str]:
    """Of every route there is, those of the framework and what is mounted too, and of some that are not."""
    for route in app.routes:
        assert isinstance(route, Endpoint)
        yield route.path_format.format(name="llm", file_id="x", batch_id="x", path="x")
    yield from ("/", "/nothing", "/v1", "/docs/swagger-ui.css", "//admin/status", "/health", "/metrics/", "/%2e%2e/")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"authorization": "Bearer wrong"}, "invalid_api_key"),
        ({"authorization": "Bearer"}, "invalid_api_key"),
        ({"authorization": ""}, "invalid_api_key"),
        ({"authorization": "Basic nonsense"}, "invalid_api_key"),
        ({"authorization": "Basic " + base64.b64encode(b"x:wrong").decode()}, "invalid_api_key"),
        ({"authorization": "Digest x"}, "invalid_api_key"),
        ({"x-api-key": "wrong"}, "invalid_api_key"),
        ({"authorization": "Bearer " + "x" * 10_000}, "invalid_api_key"),
    ],
)
async def test_no_route_answers_without_a_key(headers: dict[str, str], code: str, locked: Opened) -> None:
    found = set(paths(locked.app))
    assert len(found) > 35
    for path, method in itertools.product(sorted(found), METHODS):
        answer = await locked.http.request(method, path, headers=headers)
        assert answer.status_code == 401, (method, path)
        if method != "HEAD":
            assert answer.json()["error"]["code"] == code
            assert answer.json()["error"]["type"] == "authentication_error"
        assert answer.headers["www-authenticate"] == 'Bearer realm="cohabit"'
    assert locked.service.calls == []


async def test_each_item_of_a_batch_counts(locked: Opened) -> None:
    item = {"type": "embed", "data": {"text": "hello"}}
    answer = await locked.http.post("/batch", json=[item] * 4, headers=locked.of("carl"))
    results = answer.json()["results"]
    assert [one.get("error", {}).get("code") for one in results] == [None, None, *["rate_limit_exceeded"] * 2]
    assert len(locked.service.calls) == 2
    assert (await locked.http.post("/v1/embeddings", json=EMBED, headers=locked.of("carl"))).status_code == 429
    locked.now += 60
    assert (await locked.http.post("/v1/embeddings", json=EMBED, headers=locked.of("carl"))).status_code == 200


async def test_batch_queues_no_more_than_its_key_may_have_at_once(locked: Opened) -> None:
    item = {"type": "embed", "data": {"text": "hello"}}
    locked.service.reply = lambda call, answer: locked.service.asked.put_nowait((call, answer))
    locked.add("eve", concurrent=2)
    locked.now += LOOK_EVERY
    waiting = asyncio.ensure_future(locked.http.post("/batch", json=[item] * 5, headers=locked.of("eve")))
    for number in range(5):
        call, answer = await locked.service.asked.get()
        for _ in range(20):
            await asyncio.sleep(0)
        assert locked.service.asked.qsize() <= 1, "beside this one"
        if number == 0:
            refused = await locked.http.post("/v1/embeddings", json=EMBED, headers=locked.of("eve"))
            assert refused.json()["error"]["code"] == "too_many_concurrent"
        as_asked(call, answer)
    assert [list(one) for one in (await waiting).json()["results"]] == [["result"]] * 5
    locked.service.reply = as_asked
    again = await locked.http.post("/v1/embeddings", json=EMBED, headers=locked.of("eve"))
    assert again.status_code == 200, "all places are given back"


async def test_lines_of_a_batch_count_for_their_owner(locked: Opened) -> None:
    key = Keyring(locked.path).named("carl")

    async def line() -> int:
        caller = AsgiClient(locked.app)
        body = json.dumps(EMBED).encode()
        said = await caller.post(
            "/v1/embeddings", body, client="b", seconds=5, state={"key": key, "background": True}
        )
        return said.status

    assert [await line() for _ in range(2)] == [200, 429], "half of its two a minute"
    assert (await locked.http.post("/v1/embeddings", json=EMBED, headers=locked.of("carl"))).status_code == 200


async def test_ordinary_key_may_not_administer(locked: Opened) -> None:
    owners = [path for path in set(paths(locked.app)) if path.startswith(("/admin", "/metrics"))]
    assert len(owners) > 8
    for path, method in itertools.product(owners, ("GET", "POST")):
        answer = await locked.http.request(method, path, headers=locked.of("ann"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "admin_key_required"), path
    answer = await locked.http.get("/admin/status", headers=locked.of("root"))
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        lambda secret: {"authorization": f"Bearer {secret}"},
        lambda secret: {"authorization": f"bearer  {secret} "},
        lambda secret: {"authorization": "Basic " + base64.b64encode(f"anyone:{secret}".encode()).decode()},
        lambda secret: {"x-api-key": secret},
        lambda secret: {"api-key": secret},
        lambda secret: {"api-key": secret, "authorization": f"Bearer {secret}"},
    ],
)
async def test_key_is_taken_from_every_known_header(header: Any, locked: Opened) -> None:
    answer = await locked.http.post("/v1/embeddings", json=EMBED, headers=header(locked.secrets["ann"]))
    assert answer.content == EMBED_ANSWER


async def test_two_different_keys_are_refused(locked: Opened) -> None:
    headers = {**locked.of("ann"), "x-api-key": locked.secrets["root"]}
    answer = await locked.http.get("/v1/models", headers=headers)
    assert answer.status_code == 401


async def test_browser_is_asked_for_a_password(locked: Opened) -> None:
    answer = await locked.http.get("/docs", headers={"accept": "text/html,*/*"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Basic realm="cohabit"'


async def test_revoked_key_is_refused(locked: Opened) -> None:
    assert (await locked.http.get("/v1/models", headers=locked.of("ann"))).status_code == 200
    with edited(locked.path) as keys:
        del keys["ann"]
    locked.now += 1.0
    assert (await locked.http.get("/v1/models", headers=locked.of("ann"))).status_code == 401


async def test_log_has_the_name_of_a_key_and_not_its_secret(
    locked: Opened, logged: list[MutableMapping[str, Any]]
) -> None:
    for headers in (locked.of("ann"), {"authorization": "Bearer " + locked.secrets["ann"] + "x"}):
        answer = await locked.http.post("/v1/embeddings", json=EMBED, headers=headers)
        assert locked.secrets["ann"] not in f"{answer.text}{answer.headers}"
    assert [line.get("key") for line in logged] == ["ann", None]
    assert locked.secrets["ann"] not in str(logged)


async def test_fairness_is_between_keys(locked: Opened) -> None:
    await locked.http.post("/v1/embeddings", json=EMBED, headers=locked.of("ann"))
    assert [call.client for call in locked.service.calls] == ["ann"]


async def test_key_for_some_models_sees_no_others(locked: Opened) -> None:
    http, bob = locked.http, locked.of("bob")
    assert [each["id"] for each in (await http.get("/v1/models", headers=bob)).json()["data"]] == ["embeddings"]
    assert (await http.get("/v1/models/llm", headers=bob)).status_code == 404
    assert (await http.post("/v1/embeddings", json=EMBED, headers=bob)).status_code == 200
    refused = await http.post("/v1/chat/completions", json=CHAT, headers=bob)
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
    assert "configured are embeddings" in refused.json()["error"]["message"]
    unnamed = await http.post("/inference", json={"type": "chat", "data": {"prompt": "x"}}, headers=bob)
    assert unnamed.json()["error"]["code"] == "unsupported_task"
    (item,) = (await http.post("/batch", json=[{"type": "chat", "data": {"prompt": "x"}}], headers=bob)).json()[
        "results"
    ]
    assert item["error"]["code"] == "unsupported_task"
    assert [call.model for call in locked.service.calls] == ["embeddings"]


async def test_models_of_a_key_may_be_named_by_alias(locked: Opened) -> None:
    locked.add("eve", models=("gpt-4o-mini",))
    locked.now += LOOK_EVERY
    listed = await locked.http.get("/v1/models", headers=locked.of("eve"))
    assert [each["id"] for each in listed.json()["data"]] == ["llm", "gpt-4o-mini"]
    for model in ("llm", "gpt-4o-mini"):
        answer = await locked.http.post(
            "/v1/chat/completions", json={**CHAT, "model": model}, headers=locked.of("eve")
        )
        assert answer.status_code == 200


async def test_requests_a_minute_are_limited(locked: Opened) -> None:
    answers = [await locked.http.get("/v1/models", headers=locked.of("carl")) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].json()["error"]["code"] == "rate_limit_exceeded"
    assert answers[2].headers["retry-after"] == "60"
    assert (await locked.http.get("/v1/models", headers=locked.of("ann"))).status_code == 200
    locked.now += 60
    assert (await locked.http.get("/v1/models", headers=locked.of("carl"))).status_code == 200


async def test_stream_counts_as_a_request_until_it_ends(locked: Opened) -> None:
    codes: list[int] = []

    async def also() -> None:
        codes.append((await locked.http.get("/v1/models", headers=locked.of("dora"))).status_code)

    def reply(_: ModelRequest, answer: ResponseStream) -> None:
        answer.put(b'data: {"choices": []}\n\n')
        answer.complete()

    locked.service.reply = reply
    body = {**CHAT, "stream": True}
    async with locked.http.stream("POST", "/v1/chat/completions", json=body, headers=locked.of("dora")) as stream:
        await stream.aread()
    await also()
    auth: AuthConfig = locked.app.state.auth
    key = auth.keyring.named("dora")
    assert key is not None
    assert auth.limits.enter(key) is None
    await also()
    auth.limits.leave(key)
    await also()
    assert codes == [200, 429, 200]


async def test_health_may_be_open(service: FakeService, tmp_path: Path) -> None:
    locked = Opened(service, tmp_path / "keys.json", open_health=True)
    assert (await locked.http.get("/health/live")).status_code == 200
    assert (await locked.http.get("/health/ready")).status_code == 200
    for path in set(paths(locked.app)) | {"/health/", "/health/nothing", "/health/live/", "/health/live%0A"}:
        answer = await locked.http.get(path)
        assert (answer.status_code == 200) == (path in {"/health/live", "/health/ready"}), path
        assert answer.status_code in {200, 401}, path
    await locked.http.aclose()


async def test_files_and_batches_belong_to_a_key(locked: Opened, tmp_path: Path) -> None:
    async with opened(locked.app, locked.http, tmp_path) as stored:
        file = await stored.http.post(
            "/v1/files", data={"purpose": "batch"}, files={"file": b"x"}, headers=locked.of("ann")
        )
        path = f"/v1/files/{file.json()['id']}"
        for name, status in (("ann", 200), ("bob", 404), ("root", 200)):
            assert (await stored.http.get(path, headers=locked.of(name))).status_code == status, name
            listed = (await stored.http.get("/v1/files", headers=locked.of(name))).json()["data"]
            assert len(listed) == (status == 200)
        asked = {"input_file_id": file.json()["id"], "endpoint": "/v1/embeddings"}
        refused = await stored.http.post("/v1/batches", json=asked, headers=locked.of("bob"))
        assert refused.json()["error"]["code"] == "file_not_found"


async def test_openapi_document_describes_keys(locked: Opened, http: httpx2.AsyncClient) -> None:
    document = (await locked.http.get("/openapi.json", headers=locked.of("ann"))).json()
    assert document["components"]["securitySchemes"]["key"] == {"type": "http", "scheme": "bearer"}
    assert document["security"] == [{"key": []}]
    assert "401" in document["paths"]["/v1/models"]["get"]["responses"]
    assert "security" not in (await http.get("/openapi.json")).json()


async def test_events_end_when_the_key_is_revoked(locked: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cohabit.api.routes.admin.QUIET_SECONDS", 0.01)

    async def revoked() -> None:
        with edited(locked.path) as keys:
            del keys["root"]
        locked.now += 1.0

    ended = asyncio.create_task(locked.http.get("/admin/events", headers=locked.of("root")))
    await asyncio.sleep(0.05)
    assert not ended.done()
    await revoked()
    async with asyncio.timeout(PATIENCE):
        answer = await ended
    assert answer.status_code == 200
    assert answer.content.startswith(b": listening")
