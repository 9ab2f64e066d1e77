"""While the device cannot be read nothing is loaded; ready models serve on, and overdue requests are rejected."""

from cohabit.core.commands import Reject
from cohabit.core.events import DeviceUnreadable, LoadRequested
from cohabit.core.explain import waits_for
from cohabit.core.snapshot import alerts
from core.driver import Core, brief, model, two

LOST = DeviceUnreadable("cuda:0 cannot be read: GPU is lost")


def test_unreadable_device_stops_loads_and_ready_models_serve_on() -> None:
    core = Core(model("a"), model("b"), budget=300)
    core.bring("a")
    assert brief(core.send(LOST, at=10)) == []
    core.ask("b", at=11)
    assert brief(core.did) == []
    assert core.timer == 41
    request = core.ask("a", at=12)
    assert f"run a#1: {request}" in brief(core.did)
    assert waits_for(core.state, core["b"], 12) == "the device to be read again"


def test_loads_begin_again_with_the_next_reading() -> None:
    core = Core(model("a"), budget=300)
    core.send(LOST, at=10)
    core.ask("a", at=11)
    assert "start a#1" in brief(core.measured(at=12))
    assert list(alerts(core.state, 12)) == []


def test_unreadable_device_is_an_alert() -> None:
    core = Core(model("a"))
    core.send(LOST, at=10)
    (alert,) = alerts(core.state, 11)
    assert (alert.code, alert.severity) == ("device_unreadable", "critical")
    assert alert.text == "the device cannot be read, so no model is loaded: cuda:0 cannot be read: GPU is lost"


def test_waiter_of_an_unreadable_device_is_rejected_after_max_wait() -> None:
    core = Core(model("a", max_wait=5))
    core.send(LOST, at=10)
    request = core.ask("a", at=11)
    rejected = core.ring()
    assert core.now == 16
    assert isinstance(rejected[0], Reject)
    assert (rejected[0].request, rejected[0].rejection.reason) == (request, "device_unreadable")
    assert rejected[0].rejection.retry_after == 10


def test_max_wait_counts_anew_from_the_failure_of_the_device() -> None:
    core = two(max_wait=5)
    core.bring("a")
    core.ask("a")
    core.ask("b", at=1)
    core.send(LOST, at=3)
    core.done("a", 2, at=4)
    assert "reject 3: device_unreadable" in brief(core.ring())
    assert core.now == 8


def test_unreadable_device_stops_wakes() -> None:
    core = Core(model("a", sleep_resident=10, keep_alive=5))
    core.bring("a")
    core.ring()
    core.slept("a")
    core.measured(at=7)
    core.send(LOST, at=8)
    core.ask("a", at=9)
    assert core["a"].state == "sleeping"
    assert "wake a#1" in brief(core.measured(at=10))


def test_unreadable_device_cancels_the_swap_and_its_victim_serves_on() -> None:
    core = two(max_wait=5)
    core.bring("a")
    core.ask("a", at=1)
    core.ask("b", at=1)
    core.ask("a", at=2)
    core.ring()
    while not core.draining:
        core.ring()
    core.send(LOST)
    assert core.state.swap is None
    assert core.draining == []
    assert "run a#1: 4" in brief(core.done("a", 2))


def test_requested_load_waits_for_the_next_reading() -> None:
    core = Core(model("a"))
    core.send(LOST, at=10)
    assert brief(core.send(LoadRequested("a"), at=11)) == []
    assert "start a#1" in brief(core.measured(at=600))


def test_model_that_lacks_memory_to_run_is_rejected_too_and_blocks_no_other() -> None:
    core = Core(model("a", activation=60, max_wait=5), model("b", activation=60, max_wait=5), budget=260, slots=2)
    core.bring("a")
    core.bring("b", at=3)
    core.send(LOST, at=10)
    first = core.ask("a", at=10)
    assert f"run a#1: {first}" in brief(core.did)
    waiter = core.ask("b", at=10.5)
    core.done("a", first, at=11)  # what it used is not seen free
    again = core.ask("a", at=12)
    assert f"run a#1: {again}" in brief(core.did), "it uses its own again"
    core.done("a", again, at=13)
    assert f"reject {waiter}: device_unreadable" in brief(core.ring())
    last = core.ask("a", at=30)
    assert f"run a#1: {last}" in brief(core.did), "whoever lacks memory holds up nobody"


def test_never_fits_is_reported_while_the_device_is_unreadable() -> None:
    core = Core(model("a", idle=200, max_wait=5), budget=250)
    core.measured(at=1, foreign=100, total=300)
    core.send(LOST, at=2)
    request = core.ask("a", at=3)
    assert f"reject {request}: model_never_fits" in brief(core.ring())


def test_deadline_ends_a_wait_for_an_unreadable_device() -> None:
    core = Core(model("a", max_wait=5))
    core.send(LOST, at=10)
    request = core.ask("a", at=11, deadline=12)
    assert f"reject {request}: deadline_exceeded" in brief(core.ring())
