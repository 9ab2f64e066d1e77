"""What a wait says of itself, and that its estimates are honest."""

import pytest

from cohabit.core.events import WorkerExited
from cohabit.core.explain import expected_wait, waits_for
from cohabit.core.snapshot import alerts
from core.driver import MIB, Core, brief, model, two


def says(core: Core, name: str) -> tuple[str, float]:
    """Of the first waiting request of a model: what it waits for, and how long still."""
    return waits_for(core.state, core[name], core.now), expected_wait(core.state, core[name], 1, core.now)


def test_a_load_and_a_wake_count_down() -> None:
    core = Core(model("a", sleep_resident=10, load_seconds=5.0, wake_seconds=1.0, keep_alive=3.0))
    core.ask("a", at=0)
    assert says(core, "a") == ("the model to be loaded", 5.0)
    core.now = 2.0
    assert says(core, "a")[1] == 3.0
    core.ready("a", at=5)
    core.done("a", 1, at=6)
    core.ring()
    core.ask("a", at=core.now)
    assert says(core, "a")[0] == "the model to leave before it can be brought back"
    core.slept("a")
    assert says(core, "a") == ("the model to be woken", 1.0)


def test_swap_names_its_victims_and_when_they_are_done() -> None:
    core = two(exit_seconds=0.5)
    running = core.ask("a", at=0)
    core.ready("a", at=1)
    core["a"].footprint.run_seconds.add(10.0)
    core.ask("b", at=2)
    told, wait = says(core, "b")
    assert told == "others to have served their time; room is made in 5.0 s at the latest"
    assert wait == pytest.approx(5.0 + 1.0)
    core.ring()
    assert core.now == 7.0
    told, wait = says(core, "b")
    assert told == "room: a must leave"
    assert wait == pytest.approx((1 + 10 - 7) + 0.5 + 1.0), "the rest of its run, its exit, the load"
    core.done("a", running, at=11)
    core.gone("a", at=11.5)
    assert core["b"].state == "starting", "11 s as said, but for the load"


def test_wait_behind_another_swap_is_named() -> None:
    core = Core(model("a"), model("b", load_seconds=2.0), model("c", max_wait=50, load_seconds=1.0), budget=150)
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=2)
    core.ask("c", at=3)
    core.measured(at=20)
    told, wait = says(core, "c")
    assert told == "b to be brought in first"
    assert wait >= 2.0 + 1.0
    assert says(core, "b")[0] == "room: a must leave"


def test_waits_for_a_pause_and_for_foreign_memory_are_named() -> None:
    core = Core(model("a", idle=100), model("b"), budget=150)
    core.ask("a", at=0)
    core.gone("a", at=1)
    core.gone("a", at=2)
    assert says(core, "a")[0] == "the pause after a failed start"
    core.measured(at=2.5, total=150, foreign=100)
    core.ask("b", at=3)
    assert says(core, "b")[0] == "memory that others than our models hold, or that is pinned"


def test_swap_whose_victims_exited_waits_for_a_reading() -> None:
    core = Core(model("a", activation=60), model("b"), budget=262)
    core.bring("a", at=0)
    core.measured(at=0.5, a=60)
    core.ask("b", at=1)
    assert says(core, "b")[0] == "room: a must leave"
    core.trimmed("a", at=1.1)
    assert says(core, "b")[0] == "memory to be seen free"


def test_a_pause_counts_before_the_load() -> None:
    core = Core(model("a"), budget=150)
    core.ask("a", at=0)
    core.gone("a", at=1)
    assert core.gone("a", at=2) == []
    assert expected_wait(core.state, core["a"], 1, core.now) == pytest.approx(2.0 + 1.0), "the pause, then the load"


def test_wait_for_a_trim_is_named() -> None:
    core = Core(model("a", activation=60), model("b"), budget=262)
    core.bring("a", at=0)
    core.measured(at=0.5, a=60)
    core.ask("b", at=1)
    core.ask("a", at=1.05)
    assert says(core, "a")[0] == "its caches to be given back"


def test_shared_slots_make_the_estimated_turn_later() -> None:
    core = Core(model("a", priority=3), model("b"), model("c"), budget=500, slots=1)
    for name in "abc":
        core.bring(name)
    core.ask("a", at=1)
    core.ask("b", at=1)
    core.ask("c", at=1)
    runs = core["b"].footprint.run_seconds.value
    told, wait = says(core, "b")
    assert told == "a compute slot"
    assert wait == pytest.approx(2 * runs), "with c as its rival it has half of the slot"


def test_wait_for_runs_beyond_the_budget_is_named() -> None:
    core = Core(model("a", concurrency=2), budget=300)
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.measured(at=2, total=300, foreign=250)
    core.ask("a", at=3)
    assert core.did == []
    assert says(core, "a")[0] == "the memory in use to fall below the budget"
    (alert,) = alerts(core.state, core.now)
    assert alert.text == "60 MiB more are reserved than the device now allows; no model is loaded"


def test_unreturned_memory_is_an_alert() -> None:
    core = Core(model("a"), model("b"), budget=150, releases_when_reaped=False)
    core.bring("a", at=0)
    core.ask("b", at=10)
    gone = core.send(WorkerExited(1, 0.1), at=10.2)
    assert gone == [], "the device does not show it free yet"
    held = core.state.ledger.reserved
    assert held == 100 * MIB
    core.measured(at=11, foreign=100)  # a dead process's memory, seen as nobody's
    assert core.state.ledger.unreturned == 100 * MIB
    assert list(alerts(core.state, 12)) == []
    assert [alert.text for alert in alerts(core.state, 21)] == [
        "the device still holds 100 MiB of workers that have ended"
    ]
    assert brief(core.measured(at=22)) == ["start b#2"]
    assert core.state.ledger.unreturned_since is None


def test_margins_and_failed_sleeps_are_alerts() -> None:
    core = Core(model("a"), budget=500)
    core["a"].footprint.widen(500 * MIB)
    core["a"].health.sleep_failed = True
    assert [(alert.code, alert.model, alert.text) for alert in alerts(core.state, 0)] == [
        ("model_out_of_memory", "a", "a ran out of memory; 32 MiB more are allowed for it"),
        ("model_cannot_sleep", "a", "a cannot sleep: it is stopped instead"),
    ]


def test_wait_for_another_models_part_of_the_batch_is_named() -> None:
    core = two()
    core.ask("a", at=0, batch=1)
    core.ready("a", at=1)
    core.ask("b", at=2, batch=1)
    assert says(core, "b") == ("the part of its batch that another model works on", 1.0)


def test_background_work_waits_for_free_or_idle_room() -> None:
    core = two()
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=2, background=True)
    assert says(core, "b") == ("room that is free, or idle for longer than bringing back what is there costs", 1.0)
