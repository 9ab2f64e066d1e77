"""Histories that random testing once found, kept as examples."""

import json
from pathlib import Path
from typing import Any

import msgspec

from cohabit.core import events, invariants
from cohabit.core.commands import SetTimer
from cohabit.core.eviction import Policy
from core.driver import brief
from core.outstanding import Outstanding

HISTORIES = Path(__file__).parent / "histories"


def play(name: str) -> list[list[str]]:
    """Send the events of a history to a new core; returns the commands of each event, in short, without timers."""
    history: dict[str, Any] = json.loads((HISTORIES / f"{name}.json").read_text())
    happened = history.pop("events")
    shell = Outstanding()
    shell.begin(**{**history, "policy": Policy(history["policy"])})  # sends Started
    decided = []
    for kind, fields, now in happened[1:]:
        event = msgspec.convert(fields, getattr(events, kind), strict=False)
        commands = shell.controller.handle(event, now)
        invariants.check(shell.controller.state)
        decided.append(brief([command for command in commands if not isinstance(command, SetTimer)]))
    return decided


def test_waiter_is_let_in_by_the_event_that_makes_it_possible() -> None:
    """A run that ran out of memory has just ended. The core once looked at the waiter only at the event after it."""
    assert play("waiter_after_out_of_memory")[-1] == ["stop d#1: evicted"]
