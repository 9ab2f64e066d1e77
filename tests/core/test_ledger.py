"""The ledger: what is held from when to when, and how much there is."""

import pytest

from cohabit.core.events import DeviceMeasured
from cohabit.core.ledger import Ledger
from core.driver import MIB, Core, brief, model, two


def test_effective_budget_leaves_out_foreign_and_kept_free_memory() -> None:
    ledger = Ledger(budget=500, keep_free=100, slots=1)
    assert ledger.effective_budget == 500, "before the first reading the budget of the config counts"
    ledger.observe(1.0, total=1000, available=800, workers={})
    assert (ledger.foreign, ledger.effective_budget) == (200, 500)
    ledger.observe(2.0, total=1000, available=300, workers={})
    assert ledger.effective_budget == 200
    ledger.observe(3.0, total=1000, available=0, workers={})
    assert ledger.effective_budget == 0


def test_the_load_is_reserved_before_it_starts() -> None:
    core = Core(model("a", load=140), model("b"), budget=160)
    core.ask("a")
    assert core.state.ledger.reserved == 140 * MIB
    core.ask("b")
    assert core.did == [], "the load's peak leaves no room beside it"
    assert brief(core.ready("a")) == ["run a#1: 1"]
    assert core.state.ledger.reserved == 110 * MIB, "ready, it runs the waiting request"


def test_a_release_counts_when_the_process_is_reaped() -> None:
    core = two()
    core.bring("a", at=0)
    core.ask("b", at=10)
    assert brief(core.did) == ["stop a#1: evicted"]
    nothing_left = DeviceMeasured(10.05, 1000 * MIB, 1000 * MIB, {1: 0})
    assert core.send(nothing_left, at=10.05) == [], "whatever the device shows"
    assert core.state.ledger.reserved == 100 * MIB
    assert brief(core.gone("a", at=11)) == ["start b#2"]


def test_activation_stays_reserved_until_a_later_reading() -> None:
    core = Core(model("a", activation=50), budget=240)
    request = core.ask("a", at=0)
    core.ready("a", at=1)
    core.done("a", request, at=2)
    assert core.state.ledger.reserved == 150 * MIB
    core.measured(at=2.0, a=0)
    assert core.state.ledger.reserved == 150 * MIB, "a reading begun before the end says nothing"
    core.measured(at=3.0, a=20)
    assert core.state.ledger.reserved == 120 * MIB, "what its allocator keeps"


def test_run_reuses_cached_memory_which_stays_reserved() -> None:
    core = Core(model("a", activation=50), budget=240)
    core.bring("a", at=0)
    core.measured(at=3.0, a=70)
    assert core.state.ledger.reserved == 170 * MIB
    core.ask("a", at=4)
    assert core.state.ledger.reserved == 170 * MIB, "neither 150, forgetting what is kept, nor 220"


def test_nothing_is_reserved_while_foreign_memory_leaves_no_room() -> None:
    core = Core(model("a"), model("b"), budget=300)
    core.bring("a", at=0)
    assert core.measured(at=0.3, total=1000, foreign=850) == [], "150 are left: a stays, b may not come"
    core.ask("b", at=0.4)
    assert core.did == []
    assert brief(core.measured(at=0.5, total=1000, foreign=950)) == ["stop a#1: over_budget"]
    assert core.gone("a", at=2.1) == []
    assert brief(core.measured(at=3, total=1000, foreign=0)) == ["start b#2"]


def test_shrunken_budget_stops_no_more_workers_than_needed_and_no_busy_or_pinned_one() -> None:
    core = Core(model("p", pin=True), model("busy"), model("x"), model("y"), budget=460)
    for at, name in enumerate(("p", "busy", "x", "y")):
        core.bring(name, at=at)
    core.ask("busy", at=10)
    assert brief(core.measured(at=11, total=1000, foreign=600)) == ["stop x#3: over_budget"]
    assert core.measured(at=12, total=1000, foreign=600) == [], "what is leaving counts as left"
    assert brief(core.measured(at=13, total=1000, foreign=1000)) == ["stop y#4: over_budget"]
    assert core.gone("x", at=14) == []
    assert core.gone("y", at=14) == []
    assert brief(core.done("busy", 5, at=15)) == ["stop busy#2: over_budget"], "as soon as it is idle"


def test_own_load_is_not_counted_as_foreign() -> None:
    core = Core(model("a"), model("b"), budget=300)
    core.bring("a", at=0)
    core.measured(at=1, total=1000)
    core.ask("b", at=2)
    # b's half-loaded bytes are used on the device and measured for no ready worker
    core.measured(at=2.5, total=1000, foreign=80)
    assert core.state.ledger.foreign == 0
    core.ready("b", at=3)
    assert core.state.ledger.effective_budget == 300 * MIB


def test_own_exit_is_not_counted_as_foreign() -> None:
    core = two()
    core.bring("a", at=0)
    core.ask("b", at=10)
    # the process no longer shows as a's, the bytes are not back yet
    core.send(DeviceMeasured(10.1, 1000 * MIB, 920 * MIB, {1: 0}), at=10.1)
    assert core.state.ledger.foreign == 0


@pytest.mark.parametrize("last", ["quiet", "during the load"])
def test_memory_beyond_what_is_reserved_during_a_load_is_foreign(last: str) -> None:
    core = Core(model("a"), budget=300)
    core.measured(at=0, total=1000, foreign=50)
    core.ask("a", at=1)
    core.measured(at=2, total=1000, foreign=400)
    assert core.state.ledger.foreign == 300 * MIB, "400 used, 100 reserved"
    if last == "quiet":
        core.ready("a", at=3)
    core.measured(at=4, total=1000, foreign=50)
    assert core.state.ledger.foreign == 50 * MIB, "it has gone: back to the last quiet reading"


def test_worker_missing_in_a_reading_is_not_foreign() -> None:
    """Under WSL the driver knows totals, and nothing by process."""
    core = Core(model("a", activation=60), model("b", activation=60), budget=330)
    for name in "ab":
        core.ask(name)
        core.ready(name)
    assert core.state.ledger.reserved == 320 * MIB
    for name, request in (("a", 1), ("b", 2)):
        core.done(name, request, at=1)
    core.send(DeviceMeasured(1.0, 1000 * MIB, 680 * MIB, {}), at=1)
    assert core.state.ledger.foreign == 0
    core.send(DeviceMeasured(2.0, 1000 * MIB, 600 * MIB, {}), at=2)
    assert core.state.ledger.foreign == 80 * MIB
    assert [account.cached for account in core.state.ledger.accounts.values()] == [60 * MIB] * 2, (
        "nobody will see it free: it counts as kept, and can be evicted for"
    )


def test_reading_of_a_gone_worker_is_dropped() -> None:
    core = Core(model("a"))
    assert core.send(DeviceMeasured(1.0, 1000, 1000, {7: 5})) == []
    assert core.state.ledger.accounts == {}


@pytest.mark.parametrize("at", [10.0, 10.2], ids=["begun before the exit", "begun at the exit"])
def test_reading_during_an_exit_does_not_make_others_seem_to_hold_less(at: float) -> None:
    core = Core(model("a"), budget=330, releases_when_reaped=False)
    core.bring("a", at=0)
    core.measured(at=1, total=1000, foreign=700)
    core.gone("a", at=10.2)
    # 60 of its 100 MiB are back already, and all 100 are still reserved for it
    core.send(DeviceMeasured(at, 1000 * MIB, 260 * MIB, {}), at=10.3)
    assert core.state.ledger.foreign == 700 * MIB
    assert core.state.ledger.effective_budget == 300 * MIB
    core.send(DeviceMeasured(10.4, 1000 * MIB, 260 * MIB, {}), at=10.5)
    assert core.state.ledger.foreign == 700 * MIB
    assert core.state.ledger.unreturned == 40 * MIB
