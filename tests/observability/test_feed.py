"""What the feed tells of a core at work."""

import json
from typing import Any

from cohabit.core.commands import Command
from cohabit.core.events import Event, PinRequested, RequestCancelled, RequestFailed, UnloadRequested
from cohabit.observability.feed import Feed
from core.driver import MIB, Core, model


class Watched(Core):
    """A core whose feed is read."""

    def __init__(self, *models: Any, **more: Any) -> None:
        super().__init__(*models, **more)
        self.feed = Feed(self.state)
        self.subscription = self.feed.subscribe()

    def send(self, event: Event, at: float | None = None) -> list[Command]:
        commands = list(super().send(event, at))
        self.feed.handled(event, commands, self.now)
        return commands

    async def told(self) -> list[tuple[str, dict[str, Any]]]:
        """Everything since it was last asked, without the time."""
        found = []
        for message in await self.subscription.some(0):
            event, data = message.decode().strip().split("\n")
            fields = json.loads(data.removeprefix("data: "))
            assert fields.pop("at") > 1_700_000_000
            found.append((event.removeprefix("event: "), fields))
        return found


async def test_swap_is_reported_step_by_step() -> None:
    core = Watched(model("a"), model("b"), budget=150)
    core.bring("a")
    assert await core.told() == [
        ("model", {"model": "a", "state": "starting"}),
        ("model", {"model": "a", "state": "ready", "seconds": 1.0}),
    ]
    core.now = 10.0
    running = core.ask("a")
    core.ask("b")
    core.ring()
    [(kind, swap)] = await core.told()
    assert (kind, swap["model"], swap["need"], swap["victims"]) == ("swap", "b", 110 * MIB, ["a"])
    core.done("a", running)
    core.gone("a", at=12.0)
    stopping, stopped, starting, swap_over = await core.told()
    assert stopping[1]["state"] == "stopping"
    assert stopping[1]["cause"] == "evicted"
    assert stopping[1]["why"].startswith("for b, waiting")
    assert stopped == ("model", {"model": "a", "state": "stopped"})
    assert starting == ("model", {"model": "b", "state": "starting"})
    assert swap_over == ("swap", {"model": None})


async def test_prewarmed_process_is_reported() -> None:
    core = Watched(model("a"), model("b", prewarmed=10), budget=150)
    core.bring("a")
    core.ask("a")
    waiting = core.ask("b")
    core.send(RequestCancelled(waiting))
    assert [(fields["model"], fields["state"], fields.get("cause")) for _, fields in (await core.told())[2:]] == [
        ("b", "prewarmed", None),
        ("b", "stopping", "unneeded"),
    ]


async def test_sleep_wake_trim_pin_and_death_are_reported() -> None:
    core = Watched(model("a", sleep_resident=10, wake_seconds=0.1, keep_alive=1.0))
    core.bring("a")
    core.ring()
    core.slept("a")
    request = core.ask("a")
    core.ready("a", seconds=0.1)
    core.send(RequestFailed(request, 1, sent=False, out_of_memory=True))
    core.trimmed("a")
    core.send(PinRequested("a", pinned=True))
    core.gone("a", detail="its worker ended with signal SIGKILL")
    states = [(kind, fields.get("state"), fields.get("why")) for kind, fields in (await core.told())[2:]]
    assert states == [
        ("model", "entering_sleep", "idle for 1 s (keep_alive)"),
        ("model", "sleeping", None),
        ("model", "waking", None),
        ("model", "ready", None),
        ("trim", None, "it ran out of memory"),
        ("model", None, None),
        ("model", "stopped", "its worker ended with signal SIGKILL"),
        ("rejected", None, "a ran out of memory on this request; make it smaller")
        if core.rejected.get(request) == "out_of_memory"
        else (
            "rejected",
            None,
            "the worker of a died twice on this request, the second time while it ran alone; change it",
        ),
    ]


async def test_failed_model_is_reported() -> None:
    core = Watched(model("a"))
    core.ask("a")
    core.gone("a", permanent=True, detail="no such file")
    assert (await core.told())[1] == ("model", {"model": "a", "state": "failed", "why": "no such file"})


async def test_refusals_and_alerts_are_reported() -> None:
    core = Watched(model("a"), budget=150)
    core.bring("a")
    await core.told()
    refused = core.ask("nobody")
    [(kind, fields)] = await core.told()
    assert (kind, fields["request"], fields["reason"]) == ("rejected", refused, "model_not_found")
    core.measured(at=5.0, total=200, foreign=150)
    found = await core.told()
    assert ("alerts" in [kind for kind, _ in found]) == (core.state.ledger.reserved > 50 * MIB)
    core.measured(at=6.0, total=200, foreign=150)
    core.send(RequestCancelled(99))
    core.send(UnloadRequested("nobody"))
    assert [kind for kind, _ in await core.told() if kind == "alerts"] == [], "told once"


async def test_late_listener_gets_the_earlier_state() -> None:
    core = Watched(model("a"), model("b"), budget=150)
    core.feed.drop(core.subscription)
    core.bring("a")
    core.subscription = core.feed.subscribe()
    core.now = 10.0
    core.ask("b")
    core.gone("a")
    kinds = [(kind, fields["model"], fields.get("state")) for kind, fields in await core.told()]
    assert kinds[:2] == [("model", "a", "stopping"), ("swap", "b", None)]
    assert ("model", "a", "stopped") in kinds


async def test_no_listener_costs_nothing() -> None:
    core = Watched(model("a"))
    core.feed.drop(core.subscription)
    core.bring("a")
    assert await core.told() == []
