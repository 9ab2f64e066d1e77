"""What workers may hold at most, and which one is ended when they hold more."""

from cohabit.core.memory_limits import MemoryLimits, memory_limits
from core.driver import MIB, Core, model


def test_worker_may_hold_what_is_reserved_and_what_is_free() -> None:
    core = Core(model("a", idle=100, activation=10), model("b", idle=50, activation=5), budget=300)
    core.bring("a", at=0)
    core.bring("b", at=1)
    allowed = memory_limits(core.state)
    assert allowed.given == {1: 100 * MIB, 2: 50 * MIB}
    assert allowed.headroom == 150 * MIB
    core.ask("a", at=2)
    allowed = memory_limits(core.state)
    assert allowed.given == {1: 110 * MIB, 2: 50 * MIB}
    assert (allowed.limit(1), allowed.limit(2)) == (250 * MIB, 190 * MIB), (
        "a run of its own leaves its limit as it was"
    )


def test_while_it_loads_a_worker_may_hold_what_the_load_takes() -> None:
    core = Core(model("a", idle=100, load=130), budget=300)
    core.ask("a")
    assert memory_limits(core.state).given == {1: 130 * MIB}


def test_reading_does_not_raise_the_memory_limit() -> None:
    core = Core(model("a", idle=100, activation=10), budget=300)
    core.bring("a", at=0)
    core.ask("a", at=1)
    core.measured(at=2, a=150)
    assert core.state.ledger.accounts[1].held == 250 * MIB
    assert memory_limits(core.state).limit(1) == 300 * MIB
    core.measured(at=3, a=900)
    assert memory_limits(core.state).limit(1) == 300 * MIB


def test_foreign_memory_takes_the_headroom_and_no_more() -> None:
    core = Core(model("a", idle=100, activation=10), budget=300)
    core.bring("a", at=0)
    core.measured(at=1, total=300, foreign=250)
    assert memory_limits(core.state).headroom == 0
    assert memory_limits(core.state).limit(1) == 100 * MIB, "what was given is not taken back"


def test_unreturned_memory_of_exited_workers_is_not_free() -> None:
    core = Core(model("a", idle=100), model("b", idle=50), budget=300, releases_when_reaped=False)
    core.bring("a", at=0)
    core.bring("b", at=1)
    core.gone("a", at=2)
    assert memory_limits(core.state).headroom == 150 * MIB


def test_worker_furthest_beyond_its_reservation_is_ended() -> None:
    allowed = MemoryLimits({1: 100, 2: 50, 3: 70}, 30)
    assert allowed.exceeding({1: 100, 2: 50, 3: 70}) is None
    assert allowed.exceeding({1: 130, 2: 40}) is None, "within what is free"
    assert allowed.exceeding({1: 115, 2: 65, 3: 70}) is None, "both together as well"
    assert allowed.exceeding({1: 115, 2: 66, 3: 70}) == 2
    assert allowed.exceeding({1: 131, 2: 20, 3: 0}) == 1, "what others have left is promised to them"
