"""``/batch``: every item its own outcome, in order or as each is done."""

import asyncio
import gc
import json
from typing import Any

import httpx2
import pytest
from starlette.applications import Starlette

from api.fake_service import CANARY, EMBED_ANSWER, Exchange, FakeService, as_asked, rejected
from cohabit.api.app import create_app
from cohabit.api.inference_tasks import Work
from cohabit.api.routes import batch
from cohabit.api.streams import StreamTimeouts
from cohabit.core.commands import RejectReason
from cohabit.protocol.tasks import Task
from cohabit.runtime.requests import ModelRequest, ResponseStream
from cohabit.schemas.inference import MAX_ITEMS
from samples import data_url, picture

EMBED = {"type": "embed", "data": {"text": "hello"}}
CHAT = {"type": "chat", "data": {"prompt": "hello"}}
EMBEDDED = {"result": {"embeddings": [[1.0, 0.5]]}}
LINES = {"accept": "application/x-ndjson"}


async def test_each_item_has_its_own_outcome_in_order(http: httpx2.AsyncClient, service: FakeService) -> None:
    def reply(call: ModelRequest, answer: ResponseStream) -> None:
        if call.task is Task.DESCRIBE:
            answer.fail(rejected(RejectReason.MAX_RUN))
        else:
            as_asked(call, answer)

    service.reply = reply
    items = [
        EMBED,
        {"type": "chat", "data": {}},
        CHAT,
        {"type": "describe_image", "data": {"image": data_url(picture())}},
        {"type": CANARY},
        7,
        {"type": "speak", "data": {"text": "Hi."}},
        {"type": "describe_image", "data": {"image": "no"}},
    ]
    answer = await http.post("/batch", json=items)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert results[0] == EMBEDDED
    assert results[1]["error"]["message"] == "data needs either prompt or messages"
    assert results[2]["result"]["text"] == "Hi!"
    assert results[3]["error"]["code"] == "max_run_exceeded"
    assert results[4]["error"]["param"] in {"type", "data"}
    assert results[5]["error"]["message"] == "the body must be an object"
    assert results[6]["result"]["sample_rate"] == 24_000
    assert results[7]["error"]["code"] == "invalid_image"
    assert CANARY not in answer.text
    assert len(service.calls) == 4


async def test_items_of_a_batch_share_its_number(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    await http.post("/batch", json=[EMBED, CHAT, EMBED], headers={"x-request-timeout": "5"})
    await http.post("/batch", json=[EMBED])
    first, second, third, other = service.calls
    assert first.batch == second.batch == third.batch
    assert other.batch not in {None, first.batch}
    assert first.timeout == 5


async def test_single_request_has_no_batch_number(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    await http.post("/inference", json=EMBED)
    assert service.calls[0].batch is None


async def test_ndjson_lines_come_as_items_are_done(app: Starlette, service: FakeService) -> None:
    async with Exchange(app, "/batch", [EMBED, 7, EMBED], headers=LINES) as exchange:
        _, first = await service.asked.get()
        _, third = await service.asked.get()
        await exchange.until(2)
        third.put(EMBED_ANSWER)
        third.complete()
        await exchange.until(3)
        first.put(EMBED_ANSWER)
        first.complete()
        await exchange.ended()
    wrong, late, early, end = exchange.bodies
    assert json.loads(wrong)["index"] == 1
    assert "error" in json.loads(wrong)
    assert json.loads(late) == {"index": 2, **EMBEDDED}
    assert json.loads(early) == {"index": 0, **EMBEDDED}
    assert (end, exchange.complete) == (b"", True)
    assert service.cancelled == []


@pytest.mark.parametrize("headers", [LINES, {}])
async def test_batch_is_cancelled_when_its_client_leaves(
    app: Starlette, service: FakeService, headers: dict[str, str]
) -> None:
    async with Exchange(app, "/batch", [EMBED, CHAT, EMBED], headers=headers) as exchange:
        for _ in range(3):
            _, answer = await service.asked.get()
        answer.put(EMBED_ANSWER)
        answer.complete()
        for _ in range(5):
            await asyncio.sleep(0)
        exchange.leave()
        await exchange.ended()
    assert sorted(service.cancelled) == [1, 2]


async def test_items_that_wait_are_freed_when_the_client_leaves(app: Starlette, service: FakeService) -> None:
    """At once: the garbage collector may come minutes later, and they may have 32 MiB."""
    waiting = asyncio.Event()

    def full(_model: str) -> bool:
        waiting.set()
        return False

    service.room = full
    gc.collect()
    gc.disable()
    try:
        async with Exchange(app, "/batch", [EMBED] * 100) as exchange:
            await waiting.wait()
            assert _works() >= 100
            exchange.leave()
            await exchange.ended()
        assert _works() <= 1, "at most the one at hand"
    finally:
        gc.enable()


def _works() -> int:
    """How many pieces of work exist."""
    return sum(isinstance(each, Work) for each in gc.get_objects())


async def test_batch_client_that_reads_nothing_is_cut_off(service: FakeService) -> None:
    service.reply = as_asked
    app = create_app(service, timeouts=StreamTimeouts(stall_timeout=0.01))
    async with Exchange(app, "/batch", [EMBED, EMBED], headers=LINES) as exchange:
        exchange.stop_reading()
        await exchange.ended()
    assert exchange.aborted


@pytest.mark.parametrize("body", [{}, [], "x", [EMBED] * (MAX_ITEMS + 1)])
async def test_invalid_batch_is_refused(body: Any, http: httpx2.AsyncClient, service: FakeService) -> None:
    answer = await http.post("/batch", json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == f"the body must be a JSON array of 1 to {MAX_ITEMS} items"
    assert not service.calls


@pytest.mark.parametrize("item", [EMBED, {"type": "chat", "data": {}}])
async def test_invalid_time_limit_is_refused(
    http: httpx2.AsyncClient, service: FakeService, item: dict[str, Any]
) -> None:
    answer = await http.post("/batch", json=[item], headers={"x-request-timeout": "soon"})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-request-timeout")
    assert not service.calls


@pytest.mark.parametrize("headers", [LINES, {}])
async def test_results_held_are_bounded(
    http: httpx2.AsyncClient, service: FakeService, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MAX_HELD", 2 * len(EMBED_ANSWER))
    service.reply = as_asked
    answer = await http.post("/batch", json=[EMBED] * 20, headers=headers)
    found = [json.loads(line) for line in answer.text.splitlines()] if headers else answer.json()["results"]
    codes = [one["error"]["code"] for one in found if "error" in one]
    assert set(codes) == {"batch_too_large"}
    assert 0 < len(codes) < 20
    assert len(service.cancelled) == len(codes)


async def test_items_wait_until_the_queue_of_their_model_has_room(
    http: httpx2.AsyncClient, service: FakeService
) -> None:
    most = 0

    def reply(call: ModelRequest, answer: ResponseStream) -> None:
        nonlocal most
        most = max(most, service.asked.qsize() + 1)
        service.asked.put_nowait((call, answer))

    service.reply = reply
    service.room = lambda _: service.asked.qsize() < 3
    waiting = asyncio.ensure_future(http.post("/batch", json=[EMBED] * 10))
    for _ in range(10):
        call, answer = await service.asked.get()
        as_asked(call, answer)
    results = (await waiting).json()["results"]
    assert results == [EMBEDDED] * 10
    assert most == 3


async def test_full_queue_of_one_model_does_not_hold_up_others(
    http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.room = lambda model: model == "embeddings"
    waiting = asyncio.ensure_future(http.post("/batch", json=[CHAT, EMBED]))
    call, answer = await service.asked.get()
    assert call.model == "embeddings"
    as_asked(call, answer)
    service.reply = as_asked
    service.room = lambda _: True
    results = (await waiting).json()["results"]
    assert [list(result) for result in results] == [["result"], ["result"]]


@pytest.mark.parametrize("headers", [LINES, {}])
async def test_waiting_items_are_cancelled_when_the_client_leaves(
    app: Starlette, service: FakeService, headers: dict[str, str]
) -> None:
    service.room = lambda _: service.asked.empty() and not service.calls
    async with Exchange(app, "/batch", [EMBED] * 3, headers=headers) as exchange:
        await service.asked.get()
        exchange.leave()
        await exchange.ended()
    assert len(service.calls) == 1
