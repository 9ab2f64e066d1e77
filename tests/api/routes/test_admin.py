"""The owner's word over HTTP, and the feed of what is decided."""

import asyncio

import httpx2
import pytest
from starlette.applications import Starlette

from api.fake_service import FakeService, Served
from cohabit.api.app import create_app
from cohabit.api.streams import StreamTimeouts
from cohabit.core.admin import AdminRefusal, Objection
from cohabit.core.events import AdminRequest, LoadRequested, PinRequested, SleepRequested, UnloadRequested
from cohabit.observability.feed import Feed
from cohabit.runtime.admin import AdminOutcome, Ending
from harness import PATIENCE


@pytest.mark.parametrize(
    ("what", "asked", "within"),
    [
        ("load", LoadRequested("llm"), 60.0),
        ("load?wait=2.5", LoadRequested("llm"), 2.5),
        ("sleep", SleepRequested("llm"), 60.0),
        ("unload", UnloadRequested("llm"), 60.0),
        ("pin", PinRequested("llm", pinned=True), 1.0),
        ("unpin", PinRequested("llm", pinned=False), 1.0),
    ],
)
@pytest.mark.parametrize("name", ["llm", "gpt-4o-mini"])
async def test_admin_request_is_passed_on(
    served: Served, what: str, asked: AdminRequest, within: float, name: str
) -> None:
    answer = await served.http.post(f"/admin/models/{name}/{what}")
    assert answer.status_code == 200
    assert answer.json() == {"outcome": "done", "model": "llm", "state": "ready", "pinned": True}
    assert served.service.told == [(asked, within)]


@pytest.mark.parametrize(
    ("outcome", "status", "code"),
    [
        (AdminOutcome(Ending.FAILED, "llm does not start: no such file"), 503, "model_failed"),
        (AdminOutcome(Ending.SUPERSEDED, "told to stay"), 409, "superseded"),
        (Objection(AdminRefusal.PINNED, "llm is pinned; unpin it first"), 409, "model_pinned"),
        (Objection(AdminRefusal.SHUTTING_DOWN, "the server is shutting down"), 503, "shutting_down"),
    ],
)
async def test_impossible_admin_request_says_why(
    served: Served, outcome: AdminOutcome | Objection, status: int, code: str
) -> None:
    served.service.outcome = outcome
    answer = await served.http.post("/admin/models/llm/unload")
    assert answer.status_code == status
    assert answer.json()["error"] == {
        "message": outcome.detail,
        "type": "server_error" if status == 503 else "invalid_request_error",
        "param": None,
        "code": code,
    }
    assert ("retry-after" in answer.headers) == (status == 503)


async def test_slow_admin_request_is_accepted(served: Served) -> None:
    served.service.outcome = AdminOutcome(Ending.UNDER_WAY)
    answer = await served.http.post("/admin/models/tts/load")
    assert (answer.status_code, answer.json()["outcome"], answer.json()["pinned"]) == (202, "under_way", False)


@pytest.mark.parametrize("wait", ["-1", "601", "nan", "soon"])
async def test_invalid_wait_is_refused(served: Served, wait: str) -> None:
    answer = await served.http.post(f"/admin/models/llm/load?wait={wait}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
    assert served.service.told == []


async def test_unknown_model_is_not_found(http: httpx2.AsyncClient) -> None:
    for method, what in (("POST", "load"), ("GET", "log")):
        answer = await http.request(method, f"/admin/models/nobody/{what}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_log_of_a_worker_is_shown(http: httpx2.AsyncClient) -> None:
    answer = await http.get("/admin/models/whisper-1/log")
    assert answer.text == "stt says hello\nand goodbye\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def app_with(feed: Feed, service: FakeService) -> Starlette:
    return create_app(service, feed=feed, timeouts=StreamTimeouts(stall_timeout=0.05))


async def read(app: Starlette, until: bytes, hang_up: asyncio.Event | None = None) -> bytes:
    """GET /admin/events until so much was sent or it ended; then hang up."""
    sent = bytearray()
    enough = hang_up or asyncio.Event()
    asked = False

    async def receive() -> dict[str, object]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await enough.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, object]) -> None:
        body = message.get("body", b"")
        assert isinstance(body, bytes)
        sent.extend(body)
        if until in sent:
            enough.set()

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/admin/events",
        "raw_path": b"/admin/events",
        "query_string": b"",
        "headers": [],
    }
    async with asyncio.timeout(PATIENCE):
        await app(scope, receive, send)  # type: ignore[arg-type]  # ASGI by hand
    return bytes(sent)


async def test_feed_goes_on_until_its_reader_leaves(service: FakeService) -> None:
    feed = Feed()
    reading = asyncio.create_task(read(app_with(feed, service), b"data: 2"))
    await asyncio.sleep(0)
    assert feed._subscriptions
    for subscription in list(feed._subscriptions):
        subscription.put(b"data: 1\n\n")
        subscription.put(b"data: 2\n\n")
    assert await reading == b": listening\n\ndata: 1\n\ndata: 2\n\n"
    assert not feed._subscriptions, "nothing is kept for who has left"


async def test_feed_ends_with_the_server(service: FakeService) -> None:
    feed = Feed()
    reading = asyncio.create_task(read(app_with(feed, service), b"never"))
    await asyncio.sleep(0)
    assert feed._subscriptions
    feed.close()
    assert (await reading).startswith(b": listening\n\n")


async def test_slow_reader_of_the_feed_is_cut_off(service: FakeService) -> None:
    feed = Feed()
    subscription = feed.subscribe()
    for number in range(1001):
        subscription.put(b"%d" % number)
    assert subscription.lost
    assert subscription.closed
    assert len(await subscription.some(0)) == 1000


async def test_quiet_feed_sends_comments(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cohabit.api.routes.admin.QUIET_SECONDS", 0.001)
    assert b": quiet\n\n" in await read(app_with(Feed(), service), b": quiet")


@pytest.mark.parametrize("what", ["load", "sleep", "unload", "pin", "unpin"])
async def test_model_name_may_hold_slashes(served: Served, what: str) -> None:
    served.service.models = {"org/llm": served.service.models["llm"]}
    answer = await served.http.post(f"/admin/models/org/llm/{what}")
    assert (answer.status_code, served.service.told[0][0].model) == (200, "llm")
