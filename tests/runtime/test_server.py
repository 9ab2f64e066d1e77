"""The runtime put together, without workers."""

from collections.abc import Sequence
from typing import Any

import pytest

from cohabit.core.commands import Command
from cohabit.core.events import DeviceMeasured, Event, RequestArrived, Started, TimerFired
from cohabit.core.eviction import Policy
from cohabit.core.ledger import Ledger
from cohabit.devices.cpu import Cpu
from cohabit.protocol.spec import Device
from cohabit.protocol.tasks import Task
from cohabit.runtime import server as server_module
from cohabit.runtime.requests import Call
from cohabit.runtime.sampler import Sampler
from cohabit.runtime.server import Server
from cohabit.runtime.service import ModelInfo

PARTS: dict[str, Any] = {"models": [], "launches": {}, "watcher": None, "exposition": bytes}


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
        answer = server.submit(Call(model=model, task=Task.EMBED, body=body, client="c"))
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
