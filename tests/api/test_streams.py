"""Streams: order, comments, failures early and late, clients who leave or stop reading. No real waiting."""

import asyncio
import json

import httpx2
import pytest
from starlette.applications import Starlette

from api.fake_service import CHAT, Exchange, FakeService, at_once, failing, rejected
from cohabit.api.app import create_app
from cohabit.api.errors import REASONS
from cohabit.api.streams import STREAM_TIMEOUTS, StreamTimeouts
from cohabit.core.commands import RejectReason
from cohabit.runtime.requests import ModelRequest, ResponseStream

STREAM = {**CHAT, "stream": True}
PATH = "/v1/chat/completions"
DONE = b"data: [DONE]\n\n"
WAITING = b": waiting\n\n"


def paced(service: FakeService, **seconds: float) -> Starlette:
    return create_app(service, timeouts=StreamTimeouts(**seconds))


@pytest.mark.parametrize("path", [PATH, "/v1/completions"])
async def test_stream_is_events_then_done(path: str, http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = at_once(b'{"a":1}', b'{"b":2}')
    body = STREAM if path == PATH else {"model": "llm", "prompt": "Once", "stream": True}
    answer = await http.post(path, json=body)
    assert answer.content == b'data: {"a":1}\n\ndata: {"b":2}\n\n' + DONE
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache"
    assert "content-length" not in answer.headers
    assert "x-cohabit-queue-ms" in answer.headers
    assert "x-cohabit-run-ms" not in answer.headers


async def test_chunks_go_out_as_they_come_and_together_if_they_came_together(
    app: Starlette, service: FakeService
) -> None:
    async with Exchange(app, PATH, STREAM) as exchange:
        _, answer = await service.asked.get()
        answer.put(b"1")
        await exchange.until(2)
        exchange.stop_reading()
        answer.put(b"2")
        await asyncio.sleep(0)
        for number in range(3, 60):
            answer.put(b"%d" % number)
        exchange.read_on()
        answer.complete()
        await exchange.ended()
    whole = b"".join(exchange.bodies)
    assert whole == b"".join(b"data: %d\n\n" % number for number in range(1, 60)) + DONE
    assert len(exchange.bodies) < 10
    assert service.cancelled == []


async def test_failure_before_the_first_chunk_has_its_status(app: Starlette, service: FakeService) -> None:
    async with Exchange(app, PATH, STREAM) as exchange:
        _, answer = await service.asked.get()
        assert exchange.sent == []
        answer.fail(rejected(RejectReason.QUEUE_FULL))
        await exchange.ended()
    assert exchange.status == 429
    assert service.cancelled == []


@pytest.mark.parametrize("reason", RejectReason)
async def test_failure_after_a_chunk_is_an_event(
    reason: RejectReason, http: httpx2.AsyncClient, service: FakeService
) -> None:
    def reply(call: ModelRequest, answer: ResponseStream) -> None:
        answer.put(b"{}")
        failing(rejected(reason))(call, answer)

    service.reply = reply
    answer = await http.post(PATH, json=STREAM)
    assert answer.status_code == 200
    first, second, rest = answer.text.split("\n\n")
    assert (first, rest) == ("data: {}", "")
    error = json.loads(second.removeprefix("data: "))["error"]
    assert (error["type"], error["code"]) == (REASONS[reason][1], reason.value)


async def test_waiting_stream_is_committed_with_a_comment(service: FakeService) -> None:
    async with Exchange(paced(service, commit_after=0.0), PATH, STREAM) as exchange:
        _, answer = await service.asked.get()
        await exchange.until(2)
        assert exchange.status == 200
        assert exchange.bodies == [WAITING]
        answer.put(b"{}")
        answer.complete()
        await exchange.ended()
    assert exchange.bodies == [WAITING, b"data: {}\n\n", DONE]


async def test_comments_go_on_while_nothing_comes(service: FakeService) -> None:
    async with Exchange(paced(service, commit_after=0.0, comment_every=0.0), PATH, STREAM) as exchange:
        await exchange.until(5)
    assert exchange.bodies[:4] == [WAITING] * 4


async def test_failure_after_the_commit_is_an_event(service: FakeService) -> None:
    async with Exchange(paced(service, commit_after=0.0), PATH, STREAM) as exchange:
        _, answer = await service.asked.get()
        await exchange.until(2)
        answer.fail(rejected(RejectReason.MODEL_FAILED))
        await exchange.ended()
    assert exchange.status == 200
    assert b"model_failed" in exchange.bodies[-1]
    assert exchange.complete


def test_default_timeouts() -> None:
    assert StreamTimeouts(commit_after=2.0, comment_every=5.0, stall_timeout=60.0) == STREAM_TIMEOUTS


@pytest.mark.parametrize("commit_after", [0.0, 60.0])
async def test_waiting_stream_is_cancelled_when_its_client_leaves(commit_after: float, service: FakeService) -> None:
    async with Exchange(paced(service, commit_after=commit_after), PATH, STREAM) as exchange:
        await service.asked.get()
        exchange.leave()
        await exchange.ended()
    assert service.cancelled == [1]
    assert DONE not in exchange.bodies


async def test_running_stream_is_cancelled_when_its_client_leaves(app: Starlette, service: FakeService) -> None:
    async with Exchange(app, PATH, STREAM) as exchange:
        _, answer = await service.asked.get()
        answer.put(b"{}")
        await exchange.until(2)
        exchange.leave()
        await exchange.ended()
    assert service.cancelled == [1]
    assert not exchange.complete


async def test_unread_stream_is_cut_off_without_an_end(service: FakeService) -> None:
    async with Exchange(paced(service, stall_timeout=0.01), PATH, STREAM) as exchange:
        exchange.stop_reading()
        _, answer = await service.asked.get()
        answer.put(b"{}")
        await exchange.ended()
    assert service.cancelled == [1]
    assert exchange.aborted
    assert not exchange.complete


async def test_slow_model_is_no_slow_client(service: FakeService) -> None:
    async with Exchange(
        paced(service, commit_after=0.0, comment_every=0.02, stall_timeout=0.01), PATH, STREAM
    ) as exchange:
        _, answer = await service.asked.get()
        await exchange.until(4)  # two pauses, each longer than a client may take to read
        answer.complete()
        await exchange.ended()
    assert exchange.complete
    assert service.cancelled == []
