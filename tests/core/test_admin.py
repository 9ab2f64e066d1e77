"""What the operator asks of a model while the server runs."""

import pytest

from cohabit.core.admin import objection
from cohabit.core.events import (
    AdminRequest,
    LoadRequested,
    PinRequested,
    RequestCancelled,
    RequestFailed,
    ShutdownRequested,
    SleepRequested,
    Started,
    UnloadRequested,
)
from cohabit.core.snapshot import snapshot
from core.driver import Core, brief, model, two


def refused(core: Core, asked: AdminRequest) -> str:
    """Why it is not done; and it is not."""
    found = objection(core.state, asked)
    assert found is not None
    assert core.send(asked) == []
    return found.refusal


def idle(**more: object) -> Core:
    """Model a, in and idle at 10 s."""
    core = Core(model("a", **more))  # type: ignore[arg-type]  # settings
    core.bring("a")
    core.now = 10.0
    return core


# load


def test_requested_load_takes_free_room_at_once() -> None:
    core = Core(model("a"))
    assert brief(core.send(LoadRequested("a"))) == ["start a#1"]
    core.ready("a")
    assert core.send(LoadRequested("a")) == [], "it is in"


def test_requested_load_evicts_like_a_client_request() -> None:
    core = two()
    core.bring("a")
    core.now = 10.0
    running = core.ask("a")
    core.send(LoadRequested("b"))
    assert core.draining == [], "it has not waited for the cost of the swap"
    core.ring()
    assert core.draining == ["a"]
    assert brief(core.done("a", running)) == ["stop a#1: evicted"]
    assert brief(core.gone("a")) == ["start b#2"]
    assert core["b"].load_requested is False


def test_unload_withdraws_a_requested_load() -> None:
    core = two()
    core.bring("a")
    core.now = 10.0
    core.ask("a")
    core.send(LoadRequested("b"))
    core.ring()
    assert core.draining == ["a"]
    core.send(UnloadRequested("b"))
    assert core.draining == []


def test_waiting_time_counts_from_the_earlier_of_client_and_operator() -> None:
    core = two()
    core.send(LoadRequested("b"), at=1.0)
    core.send(UnloadRequested("b"), at=1.0)
    core = two()
    core.bring("a")
    core.now = 10.0
    core.ask("a")
    core.send(LoadRequested("b"))
    request = core.ask("b", at=10.5)
    assert core["b"].waiting_since == 10.0
    core.send(RequestCancelled(request))
    assert core["b"].waiting_since == 10.0


def test_requested_load_retries_a_failed_model_at_once() -> None:
    core = Core(model("a"))
    core.ask("a")
    core.gone("a", permanent=True, detail="no file")
    assert core["a"].state == "failed"
    assert brief(core.send(LoadRequested("a"), at=1.0)) == ["start a#2"]


def test_requested_load_withdraws_an_earlier_unload() -> None:
    core = idle()
    running = core.ask("a")
    core.send(UnloadRequested("a"))
    core.send(LoadRequested("a"))
    assert core.done("a", running) == []


def test_stopping_model_is_loaded_again_when_a_load_is_requested() -> None:
    core = idle()
    assert brief(core.send(UnloadRequested("a"))) == ["stop a#1: admin"]
    assert core.send(UnloadRequested("a")) == []
    assert core.send(LoadRequested("a")) == []
    assert brief(core.gone("a")) == ["start a#2"]


def test_load_of_a_model_that_never_fits_is_refused() -> None:
    core = Core(model("a"), budget=50)
    assert refused(core, LoadRequested("a")) == "model_never_fits"


# sleep and unload


def test_idle_model_is_unloaded_at_once_and_loaded_for_the_next_request() -> None:
    core = idle()
    assert brief(core.send(UnloadRequested("a"))) == ["stop a#1: admin"]
    assert brief(core.gone("a")) == []
    core.ask("a")
    assert brief(core.did) == ["start a#2"]


def test_busy_model_is_unloaded_after_its_runs_and_loaded_again_for_its_queue() -> None:
    core = idle()
    running = core.ask("a")
    waiting = core.ask("a")
    assert core.send(UnloadRequested("a")) == []
    [entry] = snapshot(core.state, core.now, "cpu")["models"]
    assert entry["draining"]
    [told] = [one["waits_for"] for one in snapshot(core.state, core.now, "cpu")["requests"] if one["id"] == waiting]
    assert told == "the model to be loaded again once it has left, as the operator asked"
    assert brief(core.done("a", running)) == ["stop a#1: admin"]
    assert brief(core.gone("a")) == ["start a#2"]
    assert brief(core.ready("a")) == [f"run a#2: {waiting}"]


def test_model_put_to_sleep_is_woken_by_its_queue() -> None:
    core = idle(sleep_resident=10, wake_seconds=0.1)
    running = core.ask("a")
    assert core.send(SleepRequested("a")) == []
    waiting = core.ask("a")
    assert brief(core.done("a", running)) == ["sleep a#1: admin"]
    assert brief(core.slept("a")) == ["wake a#1"]
    assert brief(core.ready("a")) == [f"run a#1: {waiting}"]


def test_starting_model_sleeps_once_loaded_and_unloads_at_once() -> None:
    core = Core(model("a", sleep_resident=10, wake_seconds=0.1))
    core.send(LoadRequested("a"))
    core.send(SleepRequested("a"))
    assert brief(core.ready("a", at=1.0)) == ["sleep a#1: admin"]
    core.slept("a")
    assert core.send(SleepRequested("a")) == [], "it does"
    assert brief(core.send(UnloadRequested("a"))) == ["stop a#1: admin"]
    core.gone("a")
    core.send(LoadRequested("a"))
    assert brief(core.send(UnloadRequested("a"))) == ["stop a#2: admin"]


def test_death_fulfils_a_requested_unload() -> None:
    core = idle()
    core.ask("a")
    core.send(UnloadRequested("a"))
    core.gone("a")
    assert core.state.leaving == {}
    assert core["a"].state == "starting", "for the request that it was given"


def test_requested_unload_waits_for_a_trim() -> None:
    core = idle()
    request = core.ask("a")
    assert brief(core.send(RequestFailed(request, 1, sent=False, out_of_memory=True))) == ["trim a#1"]
    assert core.send(UnloadRequested("a")) == []
    assert brief(core.trimmed("a"))[0] == "stop a#1: admin"


@pytest.mark.parametrize(
    ("settings", "why"), [({}, "model_cannot_sleep"), ({"sleep_resident": 10, "pin": True}, "model_pinned")]
)
def test_sleep_is_refused_where_the_engine_cannot(settings: dict[str, object], why: str) -> None:
    assert refused(idle(**settings), SleepRequested("a")) == why


def test_sleep_of_a_stopped_model_is_refused_and_unload_is_not() -> None:
    core = Core(model("a", sleep_resident=10))
    assert refused(core, SleepRequested("a")) == "model_not_loaded"
    assert objection(core.state, UnloadRequested("a")) is None
    assert core.send(UnloadRequested("a")) == []


def test_pinned_model_is_not_unloaded() -> None:
    assert refused(idle(pin=True), UnloadRequested("a")) == "model_pinned"


# pin


def test_a_pinned_model_stays_until_it_is_unpinned() -> None:
    core = two()
    core.bring("a")
    core.state.ledger.budget = 1 << 40  # so that b could be in beside it; the device has less
    core.now = 10.0
    assert core.send(PinRequested("a", True)) == []
    assert core.send(PinRequested("a", True)) == []
    request = core.ask("b")
    assert core["b"].infeasible_since == 10.0
    assert brief(core.send(PinRequested("a", False), at=11.0)) == ["stop a#1: evicted"]
    since: float | None = core["b"].infeasible_since
    assert since is None
    assert request not in core.rejected


def test_pin_saves_a_draining_victim() -> None:
    core = two()
    core.bring("a")
    core.state.ledger.budget = 1 << 40
    core.now = 10.0
    running = core.ask("a")
    core.ask("b")
    core.ring()
    assert core.draining == ["a"]
    core.send(PinRequested("a", True))
    left: list[str] = core.draining
    assert left == []
    assert core.state.swap is None
    assert core.done("a", running) == []


def test_pin_withdraws_a_requested_unload() -> None:
    core = idle()
    running = core.ask("a")
    core.send(UnloadRequested("a"))
    core.send(PinRequested("a", True))
    assert core.done("a", running) == []


def test_a_pin_that_leaves_no_room_for_another_is_refused() -> None:
    core = two()
    assert refused(core, PinRequested("a", True)) == "pin_leaves_no_room"
    assert objection(core.state, PinRequested("a", False)) is None


# refusals


def test_admin_request_is_ignored_while_shutting_down_or_for_an_unknown_model() -> None:
    core = Core(model("a"))
    core.send(Started())
    core.send(ShutdownRequested(1.0))
    assert refused(core, LoadRequested("a")) == "shutting_down"
    assert core.send(LoadRequested("nobody")) == []


def test_repeated_load_request_keeps_its_first_time() -> None:
    core = two()
    core.bring("a", at=0)
    core.ask("a", at=9)
    core.send(LoadRequested("b"), at=10)
    core.send(LoadRequested("b"), at=10.9)
    core.ring()
    assert (core.now, core.draining) == (11.0, ["a"])


def test_requested_load_is_not_best_effort() -> None:
    core = two()
    core.bring("a", at=0)
    core.ask("a", at=9)
    core.ask("b", at=10, background=True)
    core.send(LoadRequested("b"), at=10)
    core.ring()
    assert (core.now, core.draining) == (11.0, ["a"])
