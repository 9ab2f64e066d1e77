"""The schema of the status has what the core tells, no more and no less, and the docs have it."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import ValidationError

from api.fake_service import conforming
from cohabit.api.routes.status import (
    AlertStatus,
    CancelledRequest,
    DeviceStatus,
    FootprintStatus,
    ModelStatus,
    RunningRequest,
    SwapStatus,
    WaitingRequest,
)
from cohabit.core.events import RequestCancelled, ShutdownRequested
from cohabit.core.snapshot import SCHEMA, snapshot
from core.driver import Core, model

OF_THE_SHELL = {"engine": "fake", "tasks": ["chat"], "aliases": [], "pid": None}  # see runtime.server


def told(core: Core) -> dict[str, Any]:
    """As it goes over the wire."""
    state = snapshot(core.state, core.now, "cpu")
    for entry in state["models"]:
        entry.update(OF_THE_SHELL)
    found: dict[str, Any] = json.loads(json.dumps(state))
    return found


def test_nothing_has_happened() -> None:
    status = conforming(told(Core(model("a"), model("b", sleep_resident=5))))
    assert status.version == SCHEMA
    assert status.devices[0].total is None
    assert [entry.footprint.sleeping is msgspec.UNSET for entry in status.models] == [True, False]


def test_one_runs_one_is_cancelled_one_waits_for_room() -> None:
    core = Core(model("a", concurrency=2), model("b", sleep_resident=5), budget=150)
    core.measured(at=0, total=1000, foreign=10)
    core.ask("a", at=0)
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.send(RequestCancelled(1), at=2)
    core.ask("b", at=3)
    core.ring()  # the patience of b is over
    core.send(ShutdownRequested(30.0))
    status = conforming(told(core))
    assert {type(request) for request in status.requests} == {RunningRequest, CancelledRequest, WaitingRequest}
    assert status.swap is not None
    assert (status.swap.model, status.swap.victims) == ("b", ["a"])
    assert status.shutting_down


@pytest.mark.parametrize("change", [{"schema": 1}, {"alerts": None}, {"shutting_down": 1}])
def test_another_shape_is_found(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        conforming(told(Core(model("a"))) | change)


def test_what_is_not_in_the_schema_is_found() -> None:
    with pytest.raises(AssertionError):
        conforming(told(Core(model("a"))) | {"more": 1})


@pytest.mark.parametrize(
    ("part", "kinds"),
    [
        ("devices", [DeviceStatus]),
        ("models", [ModelStatus, FootprintStatus]),
        ("requests", [WaitingRequest, RunningRequest]),
        ("swap", [SwapStatus]),
        ("alerts", [AlertStatus]),
    ],
)
def test_the_docs_have_every_field(part: str, kinds: list[type[msgspec.Struct]]) -> None:
    docs = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
    docs = docs[docs.index("### `/admin/status`") :]
    row = next(line for line in docs.splitlines() if line.startswith(f"| `{part}` |"))
    assert {name for kind in kinds for name in kind.__struct_fields__ if f"`{name}`" not in row} == set()
