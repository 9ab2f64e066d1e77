"""What a model needs, and how measuring changes it."""

from cohabit.core.events import RequestCancelled, RequestFinished
from cohabit.core.footprints import Ewma, Figure, Footprint, Origin
from core.driver import MIB, Core, brief, model


def figures() -> Footprint:
    """Declared: 100 resident, 120 load, 10 working."""
    declared = [Figure(size * MIB, Origin.DECLARED) for size in (100, 120, 10)]
    return Footprint(idle=declared[0], load=declared[1], activation=declared[2])


def test_a_load_replaces_what_was_declared() -> None:
    footprint = figures()
    assert (footprint.load_need, footprint.peak) == (120 * MIB, 120 * MIB)
    footprint.learn_load(80 * MIB, 90 * MIB, 1.5)
    assert footprint.idle == Figure(80 * MIB, Origin.MEASURED)
    assert (footprint.load_need, footprint.peak) == (90 * MIB, 90 * MIB)
    assert footprint.load_seconds.value == 1.5


def test_load_is_never_reserved_below_idle() -> None:
    footprint = figures()
    footprint.learn_load(130 * MIB, 90 * MIB, 1.0)  # a peak sampled too rarely
    assert footprint.load == Figure(130 * MIB, Origin.MEASURED)


def test_measuring_only_raises_the_activation() -> None:
    footprint = figures()
    footprint.learn_run(5 * MIB)
    assert footprint.activation == Figure(10 * MIB, Origin.DECLARED), "one small run says nothing of the largest"
    footprint.learn_run(40 * MIB)
    assert footprint.activation == Figure(40 * MIB, Origin.MEASURED)
    assert footprint.peak == 140 * MIB


def test_run_beyond_the_declared_activation_raises_it() -> None:
    core = Core(model("a", idle=100, activation=10), budget=300)
    request = core.ask("a")
    core.ready("a")
    core.send(RequestFinished(request, 1, 0.1, 150 * MIB))
    core.measured(at=1)
    assert core.state.ledger.reserved == 100 * MIB
    core.ask("a")
    assert brief(core.did) == ["run a#1: 2"]
    assert core.state.ledger.reserved == 150 * MIB


def test_run_seconds_are_learned_from_whole_runs_only() -> None:
    core = Core(model("a"))
    first, second = core.ask("a"), core.ask("a")
    core.ready("a")
    core.done("a", first, seconds=3.0)
    core.send(RequestCancelled(second))
    core.done("a", second, seconds=0.001)
    assert core["a"].footprint.run_seconds.value == 3.0


def test_first_measurement_replaces_the_guess() -> None:
    average = Ewma(10.0, weight=0.5)
    assert (average.value, average.measured) == (10.0, False)
    average.add(2.0)
    assert (average.value, average.measured) == (2.0, True)
    average.add(4.0)
    assert average.value == 3.0
