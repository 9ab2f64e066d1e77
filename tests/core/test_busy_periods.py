"""What runs teach of memory: no more than the model may be given, and nothing that a bystander could have caused."""

from cohabit.core.events import RequestCancelled, WorkerReady
from cohabit.core.footprints import Figure, MeasuredRun, Origin
from cohabit.core.snapshot import TELL_SECONDS, alerts
from core.driver import MIB, Core, brief, model


def test_a_run_that_took_more_than_the_budget_does_not_put_the_model_out_of_service() -> None:
    core = Core(model("a", idle=100, activation=10), budget=300)
    core.bring("a", at=0)
    request = core.ask("a", at=1)
    core.done("a", request, at=2, used=1500)
    assert core["a"].footprint.activation == Figure(200 * MIB, Origin.MEASURED), "no more than fits"
    core.measured(at=3)
    core.ask("a", at=4)
    assert brief(core.did) == ["run a#1: 3"]


def test_learned_activation_leaves_room_for_pinned_models() -> None:
    core = Core(model("a", idle=100, activation=10), model("p", idle=50, pin=True), budget=300)
    core.bring("p", at=0)
    core.bring("a", at=1)
    core.done("a", core.ask("a", at=2), at=3, used=1500)
    assert core["a"].footprint.activation.size == 150 * MIB


def test_learned_sizes_of_runs_are_capped() -> None:
    core = Core(model("a", idle=100, activation=10), budget=300)
    core.bring("a", at=0)
    core.done("a", core.ask("a", at=1, units=8), at=2, used=1500)
    assert core["a"].footprint.buckets == {3: MeasuredRun(8, 200 * MIB)}


def test_a_request_that_fails_is_not_charged_to_those_beside_it() -> None:
    core = Core(model("a", idle=100, activation=10, concurrency=2), budget=300)
    core.bring("a", at=0)
    poison, bystander = core.ask("a", at=1), core.ask("a", at=1)
    core.gives_up("a", poison, at=2, used=150)
    core.done("a", bystander, at=3, used=150)
    assert core["a"].footprint.activation == Figure(10 * MIB, Origin.DECLARED)
    assert core["a"].health.overruns == 1, "but it is counted, once"


def test_failed_request_is_not_charged_to_those_that_end_before_it() -> None:
    core = Core(model("a", idle=100, activation=10, concurrency=2), budget=300)
    core.bring("a", at=0)
    poison, bystander = core.ask("a", at=1), core.ask("a", at=1)
    core.done("a", bystander, at=2, used=150)
    core.gives_up("a", poison, at=3, used=150)
    assert core["a"].footprint.activation == Figure(10 * MIB, Origin.DECLARED)


def test_overlapping_runs_teach_once_all_are_answered_or_cancelled() -> None:
    core = Core(model("a", idle=100, activation=10, concurrency=2), budget=300)
    core.bring("a", at=0)
    first, second = core.ask("a", at=1), core.ask("a", at=1)
    core.done("a", first, at=2, used=60)
    assert core["a"].footprint.activation.size == 10 * MIB, "the other one is not over"
    core.send(RequestCancelled(second), at=3)
    core.done("a", second, at=4, used=70)
    assert core["a"].footprint.activation == Figure(70 * MIB, Origin.MEASURED)


def test_busy_period_after_a_failed_one_teaches_again() -> None:
    core = Core(model("a", idle=100, activation=10), budget=300)
    core.bring("a", at=0)
    core.gives_up("a", core.ask("a", at=1), at=2, used=150)
    core.done("a", core.ask("a", at=3), at=4, used=60)
    assert core["a"].footprint.activation.size == 60 * MIB


def test_run_beyond_its_reservation_is_counted_and_an_alert_for_a_while() -> None:
    core = Core(model("a", idle=100, activation=10), budget=300)
    core.bring("a", at=0)
    core.done("a", core.ask("a", at=1), at=2, used=42)
    assert core["a"].health.overruns == 0, "within the noise"
    core["a"].footprint.activation = Figure(10 * MIB, Origin.DECLARED)
    core.measured(at=2.5)
    core.done("a", core.ask("a", at=3), at=4, used=90)
    assert core["a"].health.overruns == 1
    told = "a held 190 MiB where 110 MiB were reserved (once since the start)"
    assert [alert.text for alert in alerts(core.state, 5)] == [told]
    core.measured(at=5)
    core.done("a", core.ask("a", at=6), at=7, used=150)
    assert "2 times since the start" in next(iter(alerts(core.state, 8))).text
    assert list(alerts(core.state, 7 + TELL_SECONDS)) == []


def test_larger_idle_size_caps_the_learned_activation() -> None:
    core = Core(model("a", idle=100, activation=10), budget=300)
    core.bring("a", at=0)
    core.done("a", core.ask("a", at=1), at=2, used=200)
    core["a"].footprint.buckets = {3: MeasuredRun(8, 200 * MIB)}
    core.gone("a", at=3)
    core.ask("a", at=4)
    core.send(WorkerReady(core.workers["a"], 130 * MIB, 130 * MIB, 1.0), at=5)
    assert core["a"].footprint.activation.size == 170 * MIB
    assert core["a"].footprint.buckets == {3: MeasuredRun(8, 170 * MIB)}


def test_a_pinned_model_that_turns_out_larger_caps_the_others() -> None:
    core = Core(model("a", idle=100, activation=10), model("p", idle=50, pin=True), budget=300)
    core["a"].footprint.activation = Figure(150 * MIB, Origin.MEASURED)
    core.ask("p", at=0)
    core.send(WorkerReady(core.workers["p"], 80 * MIB, 80 * MIB, 1.0), at=1)
    assert core["a"].footprint.peak == 220 * MIB


def test_wake_does_not_learn_an_idle_size_beyond_the_budget() -> None:
    core = Core(model("a", idle=100, activation=10, sleep_resident=10), budget=300)
    footprint = core["a"].footprint
    footprint.learn_wake(295 * MIB, 295 * MIB, 0.5, 300 * MIB)
    assert footprint.idle.size == 100 * MIB, "with it the model would never fit"
    assert footprint.wake_seconds.value == 0.5
    footprint.learn_wake(150 * MIB, 160 * MIB, 0.5, 300 * MIB)
    assert (footprint.idle.size, footprint.load.size) == (150 * MIB, 160 * MIB)
    footprint.activation = Figure(20 * MIB, Origin.MEASURED)
    footprint.learn_wake(295 * MIB, 295 * MIB, 0.5, 300 * MIB)
    assert footprint.idle.size == 295 * MIB, "what runs taught is capped beside it"
