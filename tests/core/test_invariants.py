"""The checker itself: a state that contradicts itself is noticed."""

import pytest

from cohabit.core import invariants
from cohabit.core.queues import Request
from core.driver import Core, model


def test_ledger_that_contradicts_the_state_is_noticed() -> None:
    core = Core(model("a"))
    core.bring("a")
    core.state.ledger.slots_used = 1
    with pytest.raises(invariants.InvariantBroken, match="slots are taken by busy models only"):
        invariants.check(core.state)


def test_a_request_in_two_places_is_noticed() -> None:
    core = Core(model("a"))
    request = core.ask("a")
    core.ready("a")
    core["a"].queue.push(core.state.requests[request])
    with pytest.raises(invariants.InvariantBroken, match="every request waits or runs, once"):
        invariants.check(core.state)


def test_request_that_was_never_accepted_is_noticed() -> None:
    core = Core(model("a"))
    core["a"].queue.push(Request(99, "a", "", 0.0))
    with pytest.raises(invariants.InvariantBroken, match="every request waits or runs, once"):
        invariants.check(core.state)


def test_load_without_a_reservation_is_noticed() -> None:
    core = Core(model("a"))
    core.ask("a")
    core.state.ledger.accounts[1].load = 0
    with pytest.raises(invariants.InvariantBroken, match="a reserves a load while it loads"):
        invariants.check(core.state)


def test_draining_without_a_swap_is_noticed() -> None:
    core = Core(model("a"))
    core.bring("a")
    core["a"].draining = True
    with pytest.raises(invariants.InvariantBroken, match="a drains only for a swap"):
        invariants.check(core.state)
