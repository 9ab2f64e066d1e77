"""What the page and the status command are told, and whether there is progress."""

import pytest

from cohabit.core import snapshot as snapshots
from cohabit.core.events import RequestCancelled, ShutdownRequested
from cohabit.core.snapshot import SCHEMA, snapshot
from core.driver import MIB, Core, model

FIGURES = (("idle", 100), ("load", 100), ("inference", 110))  # what a model of the driver declares


def seen(core: Core) -> dict[str, dict[str, object]]:
    """Waiting and running requests by id."""
    return {str(entry["id"]): entry for entry in snapshot(core.state, core.now, "cpu")["requests"]}


def test_snapshot_shows_the_device_and_a_stopped_model() -> None:
    core = Core(model("a"), budget=500, slots=2)
    core.measured(at=1, total=1000, foreign=200)
    status = snapshot(core.state, 2.0, "cpu")
    assert status["schema"] == SCHEMA
    assert status["devices"][0] == {
        "name": "cpu",
        "total": 1000 * MIB,
        "budget": 500 * MIB,
        "keep_free": 0,
        "effective_budget": 500 * MIB,
        "reserved": 0,
        "headroom": 500 * MIB,
        "unreturned": 0,
        "foreign": 200 * MIB,
        "host_cache": 0,
        "host_copies": 0,
        "compute_slots": 2,
        "slots_used": 0,
    }
    (entry,) = status["models"]
    declared = {part: {"bytes": size * MIB, "origin": "declared"} for part, size in FIGURES}
    assert entry == {
        "name": "a",
        "device": "cpu",
        "state": "stopped",
        "since_seconds": 2.0,
        "draining": False,
        "pinned": False,
        "reserved": 0,
        "load": 0,
        "idle": 0,
        "activation": 0,
        "cached": 0,
        "host_copy": 0,
        "footprint": declared,
        "margin": 0,
        "load_seconds": 1.0,
        "wake_seconds": 1.0,
        "in_flight": 0,
        "waiting": 0,
        "loads": 0,
        "wakes": 0,
        "last_eviction": "",
        "failure": "",
        "overruns": 0,
    }
    assert status["requests"] == []
    assert status["swap"] is None
    assert status["alerts"] == []
    assert status["shutting_down"] is False


def test_snapshot_lists_the_first_requests_and_counts_all() -> None:
    core = Core(model("a", concurrency=5, queue_limit=9999), model("b"))
    for _ in range(50):
        core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b")
    whole = snapshot(core.state, core.now, "cpu")
    assert len(whole["requests"]) == 51
    some = snapshot(core.state, core.now, "cpu", listed=3)
    assert [(one["model"], one["state"], one.get("position")) for one in some["requests"]] == [
        ("a", "waiting", 1),
        ("a", "waiting", 2),
        ("a", "waiting", 3),
        ("a", "running", None),
        ("a", "running", None),
        ("a", "running", None),
        ("b", "waiting", 1),
    ]
    assert [one for one in whole["requests"] if one in some["requests"]] == some["requests"]
    none = snapshot(core.state, core.now, "cpu", listed=0)
    assert none["requests"] == []
    for status in (whole, some, none):
        assert [(entry["in_flight"], entry["waiting"]) for entry in status["models"]] == [(5, 45), (0, 1)]


def test_snapshot_limits_the_requests_of_all_models_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "MAX_LISTED", 20)
    core = Core(*[model(f"m{number}") for number in range(10)], budget=150)
    for name in core.state.models:
        for _ in range(3):
            core.ask(name, at=0)
    assert len(snapshot(core.state, core.now, "cpu", listed=10)["requests"]) == 20
    assert len(snapshot(core.state, core.now, "cpu")["requests"]) == 30


def test_snapshot_shows_running_waiting_and_cancelled_requests() -> None:
    core = Core(model("a", concurrency=2, load_seconds=2))
    for at in (0.0, 1.0, 2.0):
        core.ask("a", at=at)
    core.ready("a", at=3)
    core.send(RequestCancelled(1), at=4)
    status = snapshot(core.state, 5.0, "cpu")
    (entry,) = status["models"]
    state = {part: entry[part] // MIB for part in ("reserved", "load", "idle", "activation", "cached")}
    assert state == {"reserved": 110, "load": 0, "idle": 100, "activation": 10, "cached": 0}
    assert (entry["state"], entry["in_flight"], entry["waiting"], entry["loads"]) == ("ready", 2, 1, 1)
    assert entry["footprint"]["load"] == {"bytes": 100 * MIB, "origin": "measured"}
    assert entry["footprint"]["inference"] == {"bytes": 110 * MIB, "origin": "declared"}
    assert status["requests"] == [
        {
            "id": 3,
            "model": "a",
            "state": "waiting",
            "background": False,
            "position": 1,
            "waited_seconds": 3.0,
            "waits_for": "a request of this model to finish",
            "expected_seconds": pytest.approx(0.1),
        },
        {
            "id": 1,
            "model": "a",
            "state": "cancelled",
            "background": False,
            "waited_seconds": 3.0,
            "running_seconds": 2.0,
        },
        {
            "id": 2,
            "model": "a",
            "state": "running",
            "background": False,
            "waited_seconds": 2.0,
            "running_seconds": 2.0,
        },
    ]
    core.done("a", 1)
    core.done("a", 2)
    core.done("a", 3)
    (entry,) = snapshot(core.state, 5.0, "cpu")["models"]
    assert (entry["activation"], entry["cached"], entry["reserved"]) == (0, 10 * MIB, 110 * MIB), (
        "until it is seen free"
    )


def test_every_waiting_request_says_what_it_waits_for() -> None:
    core = Core(
        model("a", load_seconds=1),
        model("wide", slots=2),
        model("b", idle=280, load_seconds=1),
        budget=320,
        slots=2,
    )
    loading = core.ask("a", at=0)
    assert seen(core)[str(loading)]["waits_for"] == "the model to be loaded"
    core.ready("a", at=1)
    second = core.ask("a", at=1.5)
    assert seen(core)[str(loading)]["state"] == "running"
    entry = seen(core)[str(second)]
    assert entry["waits_for"] == "a request of this model to finish"
    assert (entry["position"], entry["expected_seconds"]) == (1, pytest.approx(0.1))
    wide = core.ask("wide", at=2)
    core.ready("wide", at=3)
    assert seen(core)[str(wide)]["waits_for"] == "a compute slot"
    core.ask("b", at=100)
    core.measured(at=130)  # wide has not been given anything yet, so only max_wait moves it
    assert core["a"].draining
    assert "loaded again" in str(seen(core)[str(second)]["waits_for"])
    swap = snapshot(core.state, core.now, "cpu")["swap"]
    assert swap["model"] == "b"
    assert set(swap["victims"]) == {"a", "wide"}
    assert "waiting" in swap["why"]


def test_waits_for_memory_swap_and_budget_are_named() -> None:
    core = Core(model("a", activation=50), model("b", activation=50), model("c", idle=60, activation=1), budget=270)
    core.bring("a", at=0)
    core.bring("b", at=1)
    running = core.ask("a", at=2)
    waiting = core.ask("b", at=2)
    assert seen(core)[str(waiting)]["waits_for"] == "working memory"
    core.done("a", running, at=3)
    core.measured(at=3.1)
    assert seen(core)[str(waiting)]["state"] == "running"


def test_run_that_would_take_bytes_of_the_swap_waits() -> None:
    core = Core(
        model("a", activation=60),
        model("b", load_seconds=0.5),
        model("c", idle=250, activation=20, load_seconds=1),
        budget=420,
    )
    core.bring("a", at=0)
    core.bring("b", at=1)
    core.ask("c", at=50)
    held = core.ask("a", at=50.1)
    assert seen(core)[str(held)]["waits_for"] == "room that is being made for another model"


def test_a_batching_model_over_the_budget_takes_nothing_more() -> None:
    core = Core(model("a", concurrency=2), budget=150)
    core.ask("a")
    core.ready("a")
    core.measured(total=1000, foreign=950)
    more = core.ask("a")
    assert core.did == []
    assert "fall below the budget" in str(seen(core)[str(more)]["waits_for"])


def test_snapshot_shows_retried_requests_pauses_and_cancelled_requests() -> None:
    core = Core(model("a", concurrency=2))
    first, second = core.ask("a"), core.ask("a")
    core.ready("a")
    core.gone("a", detail="it fell over")
    core.ready("a")
    assert "run alone" in str(seen(core)[str(second)]["waits_for"])
    core.send(RequestCancelled(first))
    assert seen(core)[str(first)]["state"] == "cancelled"
    assert snapshot(core.state, core.now, "cpu")["models"][0]["failure"] == "it fell over"
    core.send(ShutdownRequested(5))
    assert snapshot(core.state, core.now, "cpu")["shutting_down"] is True


def test_a_pause_after_failures_is_named() -> None:
    core = Core(model("a"))
    request = core.ask("a", at=0)
    core.gone("a", at=1)
    core.gone("a", at=2)
    assert seen(core)[str(request)]["waits_for"] == "the pause after a failed start"
