"""Plain answers: what is queued, the headers, and clients who leave."""

import json

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.responses import Response

from api.fake_service import CHAT, CHAT_ANSWER, EMBED_ANSWER, Exchange, FakeService, as_asked, at_once
from cohabit.api.submission import timings
from cohabit.protocol.tasks import Task
from cohabit.runtime.requests import ModelRequest, ResponseStream


@pytest.mark.parametrize(
    ("path", "body", "task", "answer"),
    [
        ("/v1/chat/completions", {**CHAT, "model": "gpt-4o-mini", "temperature": 0.5}, Task.CHAT, CHAT_ANSWER),
        ("/v1/completions", {"model": "llm", "prompt": "Once"}, Task.COMPLETE, CHAT_ANSWER),
        ("/v1/embeddings", {"model": "embeddings", "input": ["a", "b"]}, Task.EMBED, EMBED_ANSWER),
    ],
)
async def test_answer_of_the_engine_passes_through(
    path: str, body: dict[str, object], task: Task, answer: bytes, *, http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = as_asked
    raw = json.dumps(body, indent=3).encode()
    got = await http.post(path, content=raw)
    assert got.status_code == 200
    assert got.headers["content-type"] == "application/json"
    assert got.content == answer
    [call] = service.calls
    assert json.loads(call.body) == body
    assert call == ModelRequest(
        model="embeddings" if task is Task.EMBED else "llm",
        task=task,
        body=call.body,
        client="127.0.0.1",
        timeout=None,
    )


async def test_answer_in_pieces_is_put_together(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = at_once(CHAT_ANSWER[:10], CHAT_ANSWER[10:])
    assert (await http.post("/v1/chat/completions", json=CHAT)).content == CHAT_ANSWER


async def test_headers_have_the_timings(http: httpx2.AsyncClient, service: FakeService) -> None:
    def reply(_call: ModelRequest, answer: ResponseStream) -> None:
        answer.dispatched = answer.arrived + 3.0
        answer.load_seconds = 1.5
        answer.finished = answer.dispatched + 0.25
        at_once(CHAT_ANSWER)(_call, answer)

    service.reply = reply
    headers = (await http.post("/v1/chat/completions", json=CHAT)).headers
    assert headers["x-cohabit-queue-ms"] == "1500"
    assert headers["x-cohabit-load-ms"] == "1500"
    assert headers["x-cohabit-run-ms"] == "250"


@pytest.mark.parametrize(("text", "seconds"), [("30", 30.0), ("0.5", 0.5), ("007", 7.0)])
async def test_time_limit_reaches_the_runtime(
    text: str, seconds: float, http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = as_asked
    await http.post("/v1/chat/completions", json=CHAT, headers={"x-request-timeout": text})
    assert service.calls[0].timeout == seconds


@pytest.mark.parametrize(
    "text", ["0", "0.0", "-1", "nan", "inf", "1e3", "1_0", "+5", "5s", "", "1.", ".5", "9" * 400]
)
async def test_invalid_time_limit_is_refused(text: str, http: httpx2.AsyncClient, service: FakeService) -> None:
    answer = await http.post("/v1/chat/completions", json=CHAT, headers={"x-request-timeout": text})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "x-request-timeout"
    assert not service.calls


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/inference"])
async def test_request_is_cancelled_when_its_client_leaves(path: str, app: Starlette, service: FakeService) -> None:
    body = CHAT if path != "/inference" else {"type": "chat", "data": {"prompt": "hello"}}
    async with Exchange(app, path, body) as exchange:
        await service.asked.get()
        assert service.cancelled == []
        exchange.leave()
        await exchange.ended()
    assert service.cancelled == [1]


async def test_answered_request_is_not_cancelled(app: Starlette, service: FakeService) -> None:
    service.reply = as_asked
    async with Exchange(app, "/v1/chat/completions", CHAT) as exchange:
        await exchange.until(2)
        exchange.leave()
        await exchange.ended()
    assert service.cancelled == []
    assert exchange.bodies == [CHAT_ANSWER]


@pytest.mark.parametrize("name", ["a\r\nset-cookie: b", "日本語", "a\x00\x7f\udcff"])
def test_warning_never_breaks_its_header(name: str) -> None:
    warning = timings(
        ResponseStream(1, cancel=lambda _: None, grant_credit=lambda *_: None), run=True, warning=f"{name} spoke"
    )
    headers = Response(headers=warning).raw_headers
    assert all(0x20 <= byte < 0x7F for _, value in headers for byte in value)
    assert dict(headers)[b"x-cohabit-warning"].endswith(b" spoke")
