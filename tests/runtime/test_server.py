"""The runtime put together, without workers."""

from collections.abc import Sequence
from typing import Any

from cohabit.core.commands import Command
from cohabit.core.events import Event, RequestArrived
from cohabit.core.eviction import Policy
from cohabit.core.ledger import Ledger
from cohabit.devices.cpu import Cpu
from cohabit.protocol.spec import Device
from cohabit.protocol.tasks import Task
from cohabit.runtime.requests import Call
from cohabit.runtime.server import Server
from cohabit.runtime.service import ModelInfo


async def test_a_request_arrives_with_its_size_in_its_engines_units() -> None:
    heard: list[Event] = []

    def observe(event: Event, _commands: Sequence[Command], _now: float) -> None:
        heard.append(event)

    def info(name: str, engine: str) -> ModelInfo:
        return ModelInfo(name=name, engine=engine, tasks=frozenset(), aliases=(), created=0, context=None)

    parts: dict[str, Any] = {"models": [], "launches": {}, "watcher": None, "exposition": bytes}
    server = Server(
        infos=[info("embeddings", "onnx-embed"), info("other", "fake")],
        ledger=Ledger(budget=1, keep_free=0, slots=1),
        policy=Policy.GDSF,
        device=Cpu(),
        place=Device("cpu"),
        observers=[observe],
        **parts,
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
