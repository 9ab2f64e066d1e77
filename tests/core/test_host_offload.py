"""Copies in host memory: which model gets one, which gives it up for another, and what is done without."""

from typing import Any

import pytest

from cohabit.core.admin import objection
from cohabit.core.commands import SleepWorker, StartWorker
from cohabit.core.events import PinRequested, SleepRequested, TimerFired, WorkerReady
from cohabit.core.eviction import Policy
from cohabit.core.model_state import Model
from cohabit.core.snapshot import alerts, snapshot
from core.driver import MIB, Core, brief, model


def copied(name: str, *, host_copy: int = 100, load_seconds: float = 5.0, **more: Any) -> Model:
    """100 + 10 on the device, asleep 5, and a copy in host memory."""
    return model(name, sleep_resident=5, host_copy=host_copy, load_seconds=load_seconds, wake_seconds=0.1, **more)


def three(host_cache: int, **more: Any) -> Core:
    """Models of which one fits beside two sleepers."""
    return Core(*(copied(name) for name in "abc"), budget=130, host_cache=host_cache, **more)


def swap(core: Core, name: str, *, at: float) -> list[str]:
    """A request brings a model in, whoever leaves for it, and is answered; what was commanded until it started."""
    request = core.ask(name, at=at)
    did = list(core.did)
    for command in core.did:
        if isinstance(command, SleepWorker):
            core.slept(command.model, at=core.now + 0.1)
    did += core.measured(at=core.now + 0.1)
    for other in [m.name for m in core.state.models.values() if m.state == "stopping"]:
        did += core.gone(other, at=core.now + 0.1)
    core.ready(name, at=core.now + 1)
    core.done(name, request, at=core.now + 0.1)
    core.measured(at=core.now + 0.1)
    return brief(did)


def test_load_keeps_a_host_copy_where_there_is_room_and_reserves_it_at_once() -> None:
    core = three(host_cache=250)
    core.ask("a", at=0)
    assert core.did == [StartWorker("a", 1, keep_copy=True)]
    assert core.state.ledger.copied == 100 * MIB
    core.send(WorkerReady(1, 100 * MIB, 100 * MIB, 5.0, 90 * MIB), at=5)
    assert core.state.ledger.copies == {1: 90 * MIB}, "then it is what was measured"
    assert core["a"].footprint.host_copy is not None
    assert core["a"].footprint.host_copy.origin == "measured"
    status = snapshot(core.state, 5, "cpu")
    assert (status["devices"][0]["host_cache"], status["devices"][0]["host_copies"]) == (250 * MIB, 90 * MIB)
    assert status["models"][0]["host_copy"] == 90 * MIB
    assert status["models"][0]["footprint"]["host_copy"] == {"bytes": 90 * MIB, "origin": "measured"}
    assert status["models"][1]["host_copy"] == 0


def test_host_copy_ends_with_the_process() -> None:
    core = three(host_cache=100)
    core.bring("a", at=0)
    assert core.state.ledger.copied == 100 * MIB
    core.gone("a", at=10)
    assert core.state.ledger.copied == 0


@pytest.mark.parametrize("host_cache", [0, 99])
def test_model_without_room_for_a_host_copy_can_only_be_stopped(host_cache: int) -> None:
    core = three(host_cache=host_cache)
    core.ask("a", at=0)
    assert core.did == [StartWorker("a", 1, keep_copy=False)]
    core.ready("a")
    core.done("a", 1)
    core.measured(at=core.now + 0.1)
    refused = objection(core.state, SleepRequested("a"))
    assert refused is not None
    assert "host_cache" in refused.detail
    core.ask("b", at=20)
    assert brief(core.did) == ["stop a#1: evicted"]


def test_worker_without_memory_for_its_host_copy_goes_on_without() -> None:
    core = three(host_cache=300)
    request = core.ask("a", at=0)
    core.send(WorkerReady(1, 100 * MIB, 100 * MIB, 5.0, 0), at=5)
    assert core.state.ledger.copied == 0
    core.done("a", request)
    core.measured(at=core.now + 0.1)
    core.ask("b", at=20)
    assert brief(core.did) == ["stop a#1: evicted"]


def test_sleeping_model_keeps_its_host_copy_and_wakes_from_it() -> None:
    core = three(host_cache=300)
    core.bring("a", at=0)
    assert swap(core, "b", at=20) == ["sleep a#1: evicted", "start b#2"]
    assert core.state.ledger.copies == {1: 100 * MIB, 2: 100 * MIB}
    assert swap(core, "a", at=40) == ["sleep b#2: evicted", "wake a#1"]


def test_pinned_model_makes_no_host_copy() -> None:
    core = Core(copied("a", pin=True), host_cache=300)
    core.ask("a", at=0)
    assert core.did == [StartWorker("a", 1, keep_copy=False)]


def test_model_whose_sleep_failed_makes_no_host_copy() -> None:
    core = three(host_cache=300)
    core["a"].health.sleep_failed = True
    core.ask("a", at=0)
    assert core.did == [StartWorker("a", 1, keep_copy=False)]


@pytest.mark.parametrize("policy", list(Policy))
def test_sleeper_is_stopped_for_the_host_copy_of_a_waiter(policy: Policy) -> None:
    core = three(host_cache=200, policy=policy)
    core.bring("a", at=0)
    swap(core, "b", at=20)
    assert swap(core, "c", at=40) == ["sleep b#2: evicted", "stop a#1: evicted", "start c#3"]
    assert core.state.ledger.copies == {2: 100 * MIB, 3: 100 * MIB}
    assert "for c" in core["a"].usage.last_eviction


def test_load_waits_until_the_sleeper_with_the_host_copy_exited() -> None:
    core = three(host_cache=200)
    core.bring("a", at=0)
    swap(core, "b", at=20)
    core.ask("c", at=40)
    core.slept("b", at=40.1)
    assert brief(core.measured(at=40.2)) == [], "there is room on the device, and not yet for the copy"
    assert brief(core.gone("a", at=40.3)) == ["start c#3"]


def test_sleeper_with_a_higher_score_keeps_its_host_copy() -> None:
    core = three(host_cache=200)
    core.bring("a", at=0)
    for number in range(2, 12):
        core.done("a", core.ask("a", at=float(number)), at=number + 0.1)
    core.measured(at=12)
    swap(core, "b", at=40)
    core.ask("c", at=70)
    assert brief(core.did) == ["sleep b#2: evicted"], "a was asked for eleven times"
    core.slept("b", at=70.1)
    assert core.measured(at=70.2) == [StartWorker("c", 3, keep_copy=False)]


def test_sleeper_with_waiting_requests_keeps_its_host_copy() -> None:
    core = Core(*(copied(name, patience=1000.0) for name in "abc"), budget=130, host_cache=200)
    core.bring("a", at=0)
    swap(core, "b", at=20)
    busy = core.ask("b", at=30)
    core.ask("c", at=31)
    core.ask("a", at=60)
    core.send(TimerFired(), at=61)
    assert core.draining == ["b"], "c has waited max_wait"
    core.done("b", busy, at=62)
    core.slept("b", at=62.1)
    assert core.measured(at=62.2) == [StartWorker("c", 3, keep_copy=False)]
    assert core["a"].state == "sleeping"


def test_no_sleeper_is_stopped_where_all_copies_would_not_suffice() -> None:
    core = Core(copied("a"), copied("b"), copied("c", host_copy=250), budget=130, host_cache=240)
    core.bring("a", at=0)
    swap(core, "b", at=20)
    core.ask("c", at=40)
    assert brief(core.did) == ["sleep b#2: evicted"]
    core.slept("b", at=40.1)
    assert core.measured(at=40.2) == [StartWorker("c", 3, keep_copy=False)]


def test_copy_of_a_stopped_victim_counts_as_free() -> None:
    core = Core(copied("a"), copied("b"), budget=112, host_cache=100)
    core.bring("a", at=0)
    core.ask("b", at=20)
    assert brief(core.did) == ["stop a#1: evicted"], "asleep it would hold too much"
    assert core.gone("a", at=20.1) == [StartWorker("b", 2, keep_copy=True)]


def test_preload_stops_no_sleeper_for_a_host_copy() -> None:
    core = Core(copied("a"), copied("b", load_seconds=50.0), budget=500, host_cache=100)
    core.bring("a", at=0)
    core.send(SleepRequested("a"), at=10)
    core.slept("a", at=10.1)
    core.measured(at=10.2)
    core.state.load_wanted(core["b"], None)
    assert core.measured(at=11) == [StartWorker("b", 2, keep_copy=False)]


def test_sleeper_is_stopped_where_copies_exceed_the_host_cache() -> None:
    core = three(host_cache=300)
    core.bring("a", at=0)
    swap(core, "b", at=20)
    core.ask("c", at=40)
    core.slept("b", at=40.1)
    assert brief(core.measured(at=40.2)) == ["start c#3"]
    did = core.send(WorkerReady(3, 100 * MIB, 100 * MIB, 5.0, 150 * MIB), at=46)
    assert brief(did)[0] == "stop a#1: over_budget", "the one of least use"
    assert any(alert.code == "host_cache_exceeded" for alert in alerts(core.state, 46))
    assert core.measured(at=46.1) == [], "a worker that leaves is not stopped twice"
    core.gone("a", at=46.2)
    assert list(alerts(core.state, 47)) == []


def test_pinned_sleeper_is_not_stopped_for_the_host_cache() -> None:
    core = Core(*(copied(name) for name in "abc"), budget=340, host_cache=200)
    core.bring("a", at=0)
    core.bring("b", at=10)
    core.send(SleepRequested("a"), at=20)
    core.slept("a", at=20.1)
    core.measured(at=20.2)
    core.send(PinRequested("a", pinned=True), at=30)
    assert core["a"].policy.pin
    core.ask("c", at=40)
    assert core.did == [StartWorker("c", 3, keep_copy=False)]


def test_copy_larger_than_the_host_cache_is_an_alert() -> None:
    core = three(host_cache=100)
    core.ask("a", at=0)
    core.send(WorkerReady(1, 100 * MIB, 100 * MIB, 5.0, 150 * MIB), at=5)
    assert [alert for alert in alerts(core.state, 5) if "50 MiB more of host memory" in alert.text]


def test_no_sleeper_is_stopped_where_victims_free_enough_host_memory() -> None:
    a, s, b = copied("a", host_copy=50), copied("s"), copied("b", host_copy=50, load_seconds=50.0)
    core = Core(a, s, b, budget=117, host_cache=150)
    core.bring("s", at=0)
    swap(core, "a", at=20)
    assert core["s"].state == "sleeping"
    core.ask("b", at=40)
    assert brief(core.did) == ["stop a#2: evicted"], "two sleepers do not fit beside b; a takes its copy along"
    assert core.gone("a", at=40.1) == [StartWorker("b", 3, keep_copy=True)]
    assert core["s"].state == "sleeping"
