"""What only a driver with a world of its own asks for: deadlines, clients that leave, rarer readings."""

from collections.abc import Sequence

import pytest

from cohabit.core.commands import Command
from cohabit.core.controller import Controller
from cohabit.core.events import DeviceMeasured, Event
from cohabit.core.ledger import Ledger
from cohabit.core.model_state import ModelPolicy
from cohabit.simulate.behaviour import known_model
from cohabit.simulate.shell import VirtualShell
from simulate.small_fleet import MIB, Run, takes


@pytest.mark.parametrize(
    ("leaves_at", "ended"),
    [
        pytest.param(0.5, 0.5, id="while-it-waits"),
        pytest.param(3.0, 3.0, id="while-it-runs"),
        pytest.param(7.0, 6.0, id="too-late"),
    ],
)
def test_request_of_a_client_that_left_is_cancelled(leaves_at: float, ended: float) -> None:
    run = Run({"a": takes()}, 150)
    told: list[float] = []
    run.shell.ask("a", at=0.0, run_seconds=5.0, leaves_at=leaves_at, then=told.append)
    run.shell.run()
    assert told == [pytest.approx(ended)]
    run.shell.run(until=10.0)
    assert not run.state.requests


def test_deadline_ends_a_waiting_request() -> None:
    run = Run({"a": takes()}, 150)
    told: list[float] = []
    run.shell.ask("a", at=0.0, run_seconds=5.0, deadline=0.5, then=told.append)
    run.shell.run()
    assert told == [0.5]


def test_readings_may_be_further_apart() -> None:
    behaviours = {"a": takes()}
    readings: list[float] = []

    def seen(event: Event, _commands: Sequence[Command], now: float) -> None:
        if isinstance(event, DeviceMeasured):
            readings.append(now)

    core = Controller(
        [known_model(ModelPolicy(name="a"), behaviours["a"])], Ledger(budget=150 * MIB, keep_free=0, slots=1)
    )
    shell = VirtualShell(core.handle, behaviours, total=150 * MIB, read_every=2.0, observers=[seen])
    for _ in range(50):
        shell.ask("a", at=0.0, run_seconds=0.1)
    shell.run()
    assert readings == pytest.approx([1.001, 3.001, 5.001])
