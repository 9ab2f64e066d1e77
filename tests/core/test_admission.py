"""Branch 1: what is refused at the door, in which words, and when to try again."""

import pytest

from cohabit.core.commands import Reject, Rejection, RejectReason
from cohabit.core.events import ShutdownRequested
from core.driver import MIB, Core, brief, model


def rejection(core: Core) -> Rejection:
    """The only command: a refusal."""
    (command,) = core.did
    assert isinstance(command, Reject)
    return command.rejection


def test_unknown_model_is_rejected() -> None:
    core = Core(model("a"))
    core.ask("nobody")
    assert core.did == [Reject(1, Rejection(RejectReason.UNKNOWN_MODEL, "there is no model 'nobody'"))]


def test_requests_are_rejected_while_shutting_down() -> None:
    core = Core(model("a"))
    core.ask("a")
    core.send(ShutdownRequested(30))
    core.ask("a")
    assert rejection(core) == Rejection(RejectReason.SHUTTING_DOWN, "the server is shutting down", 10.0)


def test_model_that_never_fits_is_rejected_at_once() -> None:
    core = Core(model("a", idle=140, activation=20), budget=150)
    core.ask("a")
    assert rejection(core) == Rejection(
        RejectReason.NEVER_FITS, "a needs 160 MiB and the budget now allows 150 MiB", 60.0
    )


def test_rejection_of_a_measured_size_names_the_command_that_shows_it() -> None:
    core = Core(model("a", idle=140, activation=20), budget=150)
    core["a"].footprint.learn_load(140 * MIB, 140 * MIB, 1.0)
    core.ask("a")
    assert rejection(core).detail.endswith("the operator sees what was measured with `cohabit footprints list`")


def test_model_of_exactly_the_budget_fits() -> None:
    core = Core(model("a", idle=140, activation=10), budget=150)
    core.ask("a")
    assert brief(core.did) == ["start a#1"]


def test_pinned_models_count_against_what_can_ever_fit() -> None:
    core = Core(model("a", pin=True), model("b"), budget=150)
    core.ask("b")
    assert rejection(core).reason is RejectReason.NEVER_FITS
    core.ask("a")
    assert brief(core.did) == ["start a#1"], "not against itself"


def test_failed_model_is_rejected_until_a_probe_is_due() -> None:
    core = Core(model("a"))
    core.ask("a", at=0)
    core.gone("a", at=1, permanent=True, detail="no such file")
    core.ask("a", at=6)
    assert rejection(core) == Rejection(
        RejectReason.MODEL_FAILED, "a does not start; the server's log and /admin/status say why", 25.0
    )
    core.ask("a", at=30.5)
    assert rejection(core).retry_after == 1.0, "never less than a second"
    core.ask("a", at=31)
    assert brief(core.did) == ["start a#2"]


def test_rejection_says_that_the_worker_died_where_it_gave_no_reason() -> None:
    core = Core(model("a"))
    core.ask("a")
    core.gone("a", permanent=True)
    core.ask("a")
    assert rejection(core).detail == "a does not start; the server's log and /admin/status say why"


def test_full_queue_is_rejected_with_an_estimated_time() -> None:
    core = Core(model("a", queue_limit=1, load_seconds=7))
    core.ask("a")
    core.ask("a")
    assert rejection(core).reason is RejectReason.QUEUE_FULL
    assert rejection(core).detail == "1 requests wait for a already; try again later or raise queue_limit"
    assert rejection(core).retry_after == 7.0, "when it is in, the first is taken and there is a place"


def test_estimated_time_counts_concurrency_and_no_load_of_a_ready_model() -> None:
    core = Core(model("a", queue_limit=5, concurrency=2, max_batch=2, load_seconds=7))
    for _ in range(4):
        core.ask("a")
    core.ready("a")
    for _ in range(5):
        core.ask("a")
    assert core.did == []
    core.ask("a")
    assert rejection(core).retry_after == pytest.approx(0.1), "half of the five are taken in the next round"


def test_passed_deadline_is_rejected_at_once() -> None:
    core = Core(model("a"))
    core.ask("a", at=5, deadline=5)
    assert rejection(core) == Rejection(
        RejectReason.DEADLINE, "the request's own time limit passed while it waited for a", 1.0
    )


def test_requests_of_a_batch_count_against_the_queue_limit() -> None:
    core = Core(model("a", queue_limit=1))
    core.ask("a", batch=7)
    core.ask("a", batch=7)
    assert core.rejected == {2: "queue_full"}
