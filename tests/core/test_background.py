"""Branch 5: work for which nobody waits gives way, and is not forgotten."""

from cohabit.core.dispatch import FLOOR
from cohabit.core.events import RequestCancelled, ShutdownRequested
from cohabit.core.snapshot import snapshot
from core.driver import Core, brief, model


def ready(*models: object, budget: int = 1000, slots: int = 4) -> Core:
    """All of them in, idle, at 10 s."""
    core = Core(*models, budget=budget, slots=slots)  # type: ignore[arg-type]  # models
    for name in list(core.state.models):
        core.bring(name)
    core.now = 10.0
    return core


def why(core: Core, request: int) -> str:
    """What a request waits for."""
    [found] = [one for one in snapshot(core.state, core.now, "cpu")["requests"] if one["id"] == request]
    reason: str = found["waits_for"]
    return reason


# 5.1 dispatch


def test_background_request_is_last_in_its_models_queue() -> None:
    core = ready(model("a"))
    first = core.ask("a")
    batch = core.ask("a", background=True)
    other = core.ask("a", client="x")
    assert [request.id for request in core["a"].queue] == [other, batch]
    assert brief(core.done("a", first)) == [f"run a#1: {other}"]
    assert brief(core.done("a", other)) == [f"run a#1: {batch}"]


def test_batch_mixes_no_background_with_interactive_requests() -> None:
    core = ready(model("a", max_batch=4))
    first = core.ask("a")
    batch = [core.ask("a", background=True) for _ in range(2)]
    others = [core.ask("a") for _ in range(2)]
    assert brief(core.done("a", first)) == [f"run a#1: {others[0]} {others[1]}"]
    core.done("a", others[0])
    assert brief(core.done("a", others[1])) == [f"run a#1: {batch[0]} {batch[1]}"]


def test_background_work_leaves_one_place_of_a_concurrent_engine_free() -> None:
    core = ready(model("a", concurrency=3))
    batch = [core.ask("a", background=True) for _ in range(3)]
    assert set(core["a"].run.requests) == set(batch[:2])
    assert why(core, batch[2]) == "a request of this model to finish"
    now = core.ask("a")
    assert brief(core.did) == [f"run a#1: {now}"]


def test_background_work_takes_no_slot_that_interactive_work_waits_for() -> None:
    core = ready(model("a"), model("b", slots=2), model("c"), slots=2)
    running = core.ask("a")
    waiting = core.ask("b")
    batch = core.ask("c", background=True)
    assert core.did == [], "one slot is free, and b needs two"
    assert why(core, batch) == "its turn after others"
    assert brief(core.done("a", running)) == [f"run b#2: {waiting}"]
    assert brief(core.done("b", waiting)) == [f"run c#3: {batch}"]


def test_models_with_background_work_take_turns() -> None:
    core = ready(model("a"), model("b"), slots=1)
    requests = [core.ask("ab"[number // 2], at=10.0 + 0.01 * number, background=True) for number in range(4)]
    assert brief(core.done("a", requests[0], at=10.1)) == [f"run b#2: {requests[2]}"]
    assert brief(core.done("b", requests[2], at=10.2)) == [f"run a#1: {requests[1]}"]
    assert brief(core.done("a", requests[1], at=10.3)) == [f"run b#2: {requests[3]}"]


def test_background_work_is_not_charged() -> None:
    core = ready(model("a"), model("b"), slots=1)
    batch = core.ask("a", background=True)
    before = core["a"].share.deficit
    core.done("a", batch, at=100.0)
    assert core["a"].share.deficit == before


def test_engine_busy_with_background_work_yields_its_slots_at_once() -> None:
    core = ready(model("a", concurrency=3), model("b"), slots=1)
    batch = [core.ask("a", background=True) for _ in range(4)]
    other = core.ask("b")
    assert core.did == []
    core.now += 0.001
    assert core.done("a", batch[0]) == [], "none of the two that wait"
    assert brief(core.done("a", batch[1])) == [f"run b#2: {other}"]


def test_queue_limit_does_not_count_background_work() -> None:
    core = ready(model("a", queue_limit=1))
    core.ask("a")
    for _ in range(3):
        core.ask("a", background=True)
    core.ask("a")
    assert core.rejected == {}
    refused = core.ask("a")
    assert core.rejected == {refused: "queue_full"}


# 5.1 and 5.2: room


def two(**more: object) -> Core:
    """Models a and b of which one fits, a in and idle at 10 s; a load takes 1 s."""
    core = Core(model("a", load_seconds=1.0, **more), model("b", load_seconds=1.0), budget=150)  # type: ignore[arg-type]  # settings
    core.bring("a")
    core.now = 10.0
    return core


def test_background_work_evicts_a_model_idle_for_longer_than_its_return_seconds() -> None:
    core = two()
    used = core.ask("a")
    core.done("a", used, at=11.0)
    core.ask("b", background=True)
    assert core.did == []
    assert why(core, 3).startswith("room that is free")
    assert core.timer == 12.0
    assert brief(core.ring()) == ["stop a#1: evicted"]


def test_background_work_drains_no_busy_model_before_it_is_urgent() -> None:
    core = two(max_wait=2.0)
    running = core.ask("a")
    core.ask("b", background=True)
    while core.timer is not None and core.timer < 10.0 + 1.0 / FLOOR:
        core.ring()
    assert core.draining == []
    assert core.done("a", running) == []


def test_model_with_background_work_only_is_evicted_at_once_for_interactive_work() -> None:
    core = two()
    batch = core.ask("a", background=True)
    core.ask("a", background=True)
    core.ask("b")
    assert core.draining == ["a"], "though it came in a moment ago, and has served for less than patience"
    assert brief(core.done("a", batch)) == ["stop a#1: evicted"]


def test_models_with_background_work_only_do_not_evict_each_other() -> None:
    core = two()
    core.ask("a", background=True)
    core.ask("a", background=True)
    core.ask("b", background=True)
    assert core.draining == []


def test_model_that_gets_interactive_work_is_protected_from_then_on() -> None:
    core = two()
    core.ask("a", background=True)
    core.ask("b", background=True)
    core.ask("a")
    core.ask("b", client="x")
    assert core.draining == []
    assert core["a"].best_effort is False


def test_model_whose_last_interactive_work_ended_may_be_evicted_at_once() -> None:
    core = two(concurrency=3)
    now = core.ask("a")
    core.ask("a", background=True)
    core.ask("b", at=10.5)
    assert core.draining == []
    core.done("a", now, at=10.6)
    assert core.draining == ["a"]


def test_interactive_waiters_are_loaded_before_background_ones() -> None:
    core = Core(model("a"), model("b"), model("c"), budget=150)
    core.bring("a")
    core.now = 10.0
    running = core.ask("a")
    core.ask("b", background=True)
    core.ask("c", at=11.0)
    core.done("a", running, at=15.0)
    assert core.state.swap is not None
    assert core.state.swap.model == "c"


def test_background_work_spares_a_sleeper_until_it_slept_for_longer_than_its_load() -> None:
    core = Core(
        model("a", load_seconds=2.0, sleep_resident=60, wake_seconds=0.1, keep_alive=5.0), model("b"), budget=150
    )
    core.bring("a")
    core.ring()
    core.slept("a", at=8.0, held=60)
    core.measured(at=8.1)
    core.ask("b", at=8.2, background=True)
    assert core.did == []
    assert core.timer == 8.0 + 1.9
    assert brief(core.ring())[:1] == ["stop a#1: evicted"]


def test_background_work_does_not_hold_up_runs_of_others_for_memory() -> None:
    core = ready(model("a", activation=40, concurrency=1), model("b", activation=40), budget=250)
    core["b"].footprint.run_seconds.value = 1.0  # not urgent before 31 s
    running = core.ask("a")
    core.ask("b", background=True, at=11.0)
    again = core.ask("a", at=11.0)
    core.now = 13.0
    assert core.state.swap is None
    assert brief(core.done("a", running, at=13.0)) == [f"run a#1: {again}"]


# 5.3


def test_background_work_runs_once_as_interactive_after_twenty_times_its_run() -> None:
    core = ready(model("a"))
    core["a"].footprint.run_seconds.value = 0.1
    first = core.ask("a", at=20.0)
    batch = [core.ask("a", background=True) for _ in range(2)]
    waiting = [core.ask("a", client="x") for _ in range(3)]
    core.done("a", first, at=21.9)
    assert core.timer == 22.0
    core.ring()
    assert brief(core.done("a", waiting[0], at=22.1)) == [f"run a#1: {batch[0]}"]
    assert brief(core.done("a", batch[0], at=22.2)) == [f"run a#1: {waiting[1]}"]
    assert core["a"].queue.urgent is False


def test_background_work_is_loaded_after_twenty_times_its_swap_and_serves_for_its_cost() -> None:
    core = two()
    running = core.ask("a")
    batch = [core.ask("b", background=True) for _ in range(3)]
    while not core.draining:
        core.ask("a")
        core.done("a", running, at=core.now + 0.5)
        running += 1 if running > 2 else 4
    due = 10.0 + 1.0 / FLOOR
    assert core.now == due
    core.ask("a")
    core.done("a", running, at=due + 0.1)
    core.gone("a", at=due + 0.2)
    assert brief(core.ready("b", at=due + 1.2)) == [f"run b#2: {batch[0]}"]
    assert core.draining == [], "a waits, and b has not served its second"
    assert brief(core.done("b", batch[0], at=due + 2.3)) == [f"run b#2: {batch[1]}"]
    assert core.draining == ["b"], "now it has"


def test_background_work_that_expires_soon_counts_as_interactive() -> None:
    core = two()
    core.ask("a")
    core.ask("b", background=True, deadline=20.0)
    assert core.timer == 19.0
    core.ring()
    assert core["b"].queue.urgent
    assert core.draining == ["a"]


def test_urgency_ends_with_the_request_that_was_urgent() -> None:
    core = two()
    core.ask("a")
    batch = core.ask("b", background=True)
    while not core["b"].queue.urgent:
        core.ring()
    core.send(RequestCancelled(batch))
    urgent: bool = core["b"].queue.urgent
    assert not urgent
    assert core.draining == []


def test_deadline_of_an_interactive_request_makes_no_background_work_urgent() -> None:
    core = ready(model("a"), model("b"))
    core["a"].footprint.run_seconds.value = 10.0
    core.ask("a", deadline=11.0)
    core.ask("a", background=True, deadline=100.0)
    assert core.timer == 11.0
    core.ring()
    urgent: bool = core["a"].queue.urgent
    assert not urgent


def test_urgent_background_work_that_lacks_slots_is_not_overtaken() -> None:
    core = ready(model("a", concurrency=2, patience=1e9), model("b", max_wait=1.0), slots=1)
    requests = [core.ask("a") for _ in range(2)]
    batch = core.ask("b", background=True)
    core.ask("a")
    while not core.state.starved:
        core.ring()
    assert list(core.state.starved) == ["b"]
    assert core.done("a", requests[0]) == []
    core.ask("b")
    core.send(RequestCancelled(batch))
    assert list(core.state.starved) == ["b"], "somebody waits for it"


def test_starved_model_left_with_background_work_blocks_no_other() -> None:
    core = ready(model("a", concurrency=2, patience=1e9), model("b", max_wait=1.0), slots=1)
    core.ask("a")
    now = core.ask("b")
    core.ask("b", background=True, at=10.5)
    core.ring()
    assert list(core.state.starved) == ["b"]
    core.send(RequestCancelled(now))
    assert not core.state.starved


# the end


def test_shutdown_rejects_waiting_background_work_and_drains_the_rest() -> None:
    core = ready(model("a"))
    running = core.ask("a", background=True)
    batch = core.ask("a", background=True)
    other = core.ask("a")
    assert brief(core.send(ShutdownRequested(30.0))) == [f"reject {batch}: shutting_down"]
    assert brief(core.done("a", running)) == [f"run a#1: {other}"]
