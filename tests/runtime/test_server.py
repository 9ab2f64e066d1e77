"""The runtime put together, without workers."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from cohabit.core.commands import Command
from cohabit.core.events import DeviceMeasured, Event, LoadRequested, RequestArrived, Started, TimerFired
from cohabit.core.eviction import Policy
from cohabit.core.ledger import Ledger
from cohabit.devices.cpu import Cpu
from cohabit.protocol.spec import Device
from cohabit.protocol.tasks import Task
from cohabit.runtime import server as server_module
from cohabit.runtime.requests import SERVER_FAILED, ModelRequest, ResponseFailed
from cohabit.runtime.sampler import Sampler
from cohabit.runtime.server import Server
from cohabit.runtime.service import ModelInfo
from cohabit.runtime.supervision import awaited
from core.driver import model as make_model

PARTS: dict[str, Any] = {"models": [], "launches": {}, "watcher": None, "exposition": bytes}


async def failing() -> Server:
    """A server whose core raises at the next event."""

    def contradicts_itself(_event: Event, _now: float) -> Sequence[Command]:
        raise AssertionError("a bug in the core")

    server = Server(
        infos=[],
        ledger=Ledger(budget=1 << 40, keep_free=0, slots=1),
        policy=Policy.GDSF,
        device=Cpu(),
        place=Device("cpu"),
        **PARTS,
    )
    server.loop.controller.handle = contradicts_itself  # type: ignore[method-assign,assignment]  # a bug
    return server


def call() -> ModelRequest:
    return ModelRequest(model="m", task=Task.CHAT, body=b"{}", client="c")


async def test_after_the_core_has_contradicted_itself_every_request_is_refused_at_once() -> None:
    server = await failing()
    answers = [server.submit(call()) for _ in range(1000)]
    for answer in answers:
        assert answer.ready, "nobody waits"
        with pytest.raises(ResponseFailed) as refused:
            answer.raise_early()
        assert refused.value.rejection == SERVER_FAILED
    assert server.failure.is_set()
    assert server._inflight.streams == {}
    assert not server.health().ready
    with pytest.raises(ResponseFailed):
        await server.administer(LoadRequested("m"), 60)
    await asyncio.wait_for(server.stop(drain=600), 5)


async def test_owner_who_waits_is_told_that_the_server_failed() -> None:
    server = await failing()
    server.loop.controller.state.models["m"] = wanted = make_model("m")
    wanted.load_requested = True
    working = server.loop.controller.handle
    server.loop.controller.handle = lambda *_: ()  # type: ignore[method-assign]  # does nothing at first
    asking = awaited(server.administer(LoadRequested("m"), 60))
    await asyncio.sleep(0)
    server.loop.controller.handle = working  # type: ignore[method-assign]  # and then has its bug
    server.submit(call())
    with pytest.raises(ResponseFailed):
        await asyncio.wait_for(asking, 5)


async def test_failures_of_tasks_are_alerts() -> None:
    server = await failing()

    async def fails() -> None:
        raise ValueError

    task = server.tasks.keep("reader", fails)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [alert["text"] for alert in server.status()["alerts"]] == [
        "the task 'reader' fails and is started again (1 so far); see the log"
    ]
    task.cancel()


async def test_a_request_arrives_with_its_size_in_its_engines_units() -> None:
    heard: list[Event] = []

    def observe(event: Event, _commands: Sequence[Command], _now: float) -> None:
        heard.append(event)

    def info(name: str, engine: str) -> ModelInfo:
        return ModelInfo(name=name, engine=engine, tasks=frozenset(), aliases=(), created=0, context=None)

    server = Server(
        infos=[info("embeddings", "onnx-embed"), info("other", "fake")],
        ledger=Ledger(budget=1, keep_free=0, slots=1),
        policy=Policy.GDSF,
        device=Cpu(),
        place=Device("cpu"),
        observers=[observe],
        **PARTS,
    )
    for model in ("embeddings", "other", "nobody"):
        body = b'{"input": ["ab", "abcdef"]}'
        answer = server.submit(ModelRequest(model=model, task=Task.EMBED, body=body, client="c"))
        await answer.started(5)
    arrived = [event for event in heard if isinstance(event, RequestArrived)]
    assert [(event.model, event.units) for event in arrived] == [
        ("embeddings", 2 * (6 + 2)),
        ("other", 0),
        ("nobody", 0),
    ]


async def test_after_every_event_a_reading_is_asked_for_where_one_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    taken: list[str] = []
    awaited = True
    monkeypatch.setattr(server_module, "awaits_reading", lambda _: awaited)
    monkeypatch.setattr(Sampler, "soon", lambda _: asked.append(taken[-1]))
    server = Server(
        infos=[],
        ledger=Ledger(budget=1, keep_free=0, slots=1),
        policy=Policy.GDSF,
        device=Cpu(),
        place=Device("cpu"),
        observers=[lambda event, _commands, _now: taken.append(type(event).__name__)],
        **PARTS,
    )
    server.loop.post(Started())
    server.loop.post(TimerFired())
    server.loop.post(DeviceMeasured(0.0, 1, 1, {}))
    awaited = False
    server.loop.post(TimerFired())
    assert asked == ["Started", "TimerFired"], "once the core has taken them, and not for what a reading has shown"
