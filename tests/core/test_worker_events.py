"""Which requests are retried, which are rejected, and when a model is started again."""

from cohabit.core.commands import Dispatch, Reject, Rejection, RejectReason, StartWorker
from cohabit.core.events import RequestCancelled, RequestFailed, Trimmed, WorkerReady
from cohabit.core.footprints import Figure, Origin
from core.driver import MIB, Core, brief, model, two


def test_death_retries_unsent_requests_once_alone_and_rejects_sent_ones() -> None:
    core = Core(model("a", concurrency=3))
    for _ in range(3):
        core.ask("a")
    core.ready("a")
    died = "the worker of a died after a part of the answer was sent; the others go on"
    assert core.gone("a", sent=frozenset({1})) == [
        Reject(1, Rejection(RejectReason.WORKER_DIED, died, 1.0)),
        StartWorker("a", 2),
    ]
    assert core.ready("a") == [Dispatch("a", 2, (2,))], "a suspect runs alone, though three could run together"
    assert core.done("a", 2) == [Dispatch("a", 2, (3,))]
    twice = "the worker of a died twice on this request, the second time while it ran alone; change it"
    assert core.gone("a") == [Reject(3, Rejection(RejectReason.WORKER_DIED, twice))]


def test_retried_batch_runs_one_by_one_so_that_only_the_poison_fails() -> None:
    core = Core(model("a", max_batch=3))
    for _ in range(3):
        core.ask("a")
    assert brief(core.ready("a")) == ["run a#1: 1 2 3"]
    assert brief(core.gone("a")) == ["start a#2"]
    core.ask("a")
    core.ask("a")
    assert brief(core.ready("a")) == ["run a#2: 1"]
    assert brief(core.done("a", 1)) == ["run a#2: 2"]
    assert brief(core.gone("a")) == ["reject 2: worker_died", "start a#3"]
    assert brief(core.ready("a")) == ["run a#3: 3"]
    assert brief(core.done("a", 3)) == ["run a#3: 4 5"], "those behind it are a batch again"


def test_retried_request_waits_until_the_worker_is_idle() -> None:
    core = Core(model("a", concurrency=2))
    core.ask("a")
    core.ask("a")
    core.ready("a")
    assert core.send(RequestFailed(1, 1, sent=False, out_of_memory=True)) == []
    assert brief(core.done("a", 2)) == ["run a#1: 1"]
    core.ask("a")
    assert core.did == [], "and nothing joins it"
    assert brief(core.done("a", 1)) == ["run a#1: 3"]


def test_a_failing_model_backs_off_fails_and_is_probed() -> None:
    core = Core(model("a"))
    core.ask("a", at=0)
    assert brief(core.gone("a", at=1)) == ["start a#2"], "the first time at once"
    assert core.gone("a", at=2, detail="no file") == []
    assert core.timer == 4.0
    core.ask("a", at=3)
    assert core.did == []
    assert brief(core.ring()) == ["start a#3"]
    assert brief(core.gone("a", at=5, detail="no file")) == ["reject 1: model_failed", "reject 2: model_failed"]
    assert core["a"].state == "failed"
    core.ask("a", at=34.9)
    assert brief(core.did) == ["reject 3: model_failed"]
    core.ask("a", at=35)
    assert brief(core.did) == ["start a#4"], "the next start is a probe"
    assert brief(core.gone("a", at=36)) == ["reject 4: model_failed"], "which gets one try"
    assert core["a"].health.not_before == 36.0 + 60.0, "later each time"


def test_success_resets_the_count_of_failures() -> None:
    core = Core(model("a"))
    core.ask("a", at=0)
    core.gone("a", at=1)
    core.gone("a", at=2)
    core.ring()
    assert brief(core.ready("a", at=5)) == ["run a#3: 1"]
    assert core["a"].health.failures == 2, "that it loads is no success yet"
    core.done("a", 1, at=6)
    core.ask("a", at=7)
    assert brief(core.gone("a", at=8)) == ["start a#4"], "the first time again"


def test_a_start_that_cannot_succeed_fails_at_once() -> None:
    core = Core(model("a"))
    core.ask("a")
    assert core.gone("a", permanent=True, detail="no file") == [
        Reject(
            1,
            Rejection(
                RejectReason.MODEL_FAILED, "a does not start; the server's log and /admin/status say why", 30.0
            ),
        )
    ]


def test_requests_that_kill_their_worker_do_not_count_against_the_model() -> None:
    core = Core(model("a"))
    core.bring("a", at=0)
    for number in range(6):
        poison = core.ask("a", at=10 * number + 10)
        assert brief(core.did) in ([f"run a#{core.workers['a']}: {poison}"], [f"start a#{core.workers['a']}"])
        for _ in range(2):
            if core["a"].state == "starting":
                core.ready("a")
            core.gone("a", at=core.now + 1)
            if core["a"].state == "stopped" and core["a"].queue:
                core.ring()
        assert core.rejected[poison] == "worker_died"
        assert core["a"].state in {"stopped", "starting"}
        assert core["a"].health.failures == 0
    honest = core.ask("a", at=100)
    core.ready("a")
    core.done("a", honest)
    assert honest not in core.rejected
    assert core["a"].health.deaths == 0


def test_a_worker_that_dies_idle_counts_against_its_model() -> None:
    core = Core(model("a"))
    core.bring("a", at=0)
    core.gone("a", at=1)
    assert (core["a"].health.failures, core["a"].health.deaths) == (1, 0)


def test_a_worker_that_dies_again_and_again_on_requests_is_started_after_a_pause() -> None:
    core = Core(model("a"))
    core.ask("a", at=0)
    core.ask("a", at=0)
    core.ready("a", at=1)
    assert brief(core.gone("a", at=2)) == ["start a#2"], "the first time at once"
    core.ready("a", at=3)
    assert brief(core.gone("a", at=4)) == ["reject 1: worker_died"]
    assert core.timer == 6.0
    assert brief(core.ring()) == ["start a#3"]


def test_nothing_is_in_flight_beside_a_retried_request() -> None:
    core = Core(model("a", concurrency=4, max_batch=2))
    for _ in range(3):
        core.ask("a", at=0)
    core.ready("a", at=1)
    core.gone("a", at=2)
    core.ready("a", at=3)
    for expected in (1, 2, 3):
        core.ask("a", at=4)
        assert core.did == []
        assert list(core["a"].run.requests) == [expected]
        core.done("a", expected)
    assert len(core["a"].run.requests) == 3, "then all the others together"


def test_request_beyond_the_memory_limit_is_rejected_the_second_time() -> None:
    core = Core(model("a", concurrency=2), budget=300)
    core.bring("a", at=0)
    poison, honest = core.ask("a", at=1), core.ask("a", at=1)
    assert brief(core.gone("a", at=2, exceeded=299 * MIB, out_of_memory=True)) == ["start a#2"]
    assert core["a"].health.overruns == 1
    assert core["a"].footprint.margin == 32 * MIB, "it may have been given too little"
    core.ready("a", at=3)
    core.measured(at=3.5)
    margin = core["a"].footprint.margin
    detail = "this request needs more memory than a may have; make it smaller"
    assert core.gone("a", at=4, exceeded=299 * MIB, out_of_memory=True) == [
        Reject(poison, Rejection(RejectReason.MEMORY_LIMIT, detail))
    ]
    assert core["a"].footprint.margin == margin, "now it is known to be the request"
    core.ring()
    core.ready("a", at=7)
    core.done("a", honest, at=8)
    assert honest not in core.rejected
    assert core["a"].health.failures == 0


def test_stream_ended_by_its_neighbour_is_rejected_as_worker_died() -> None:
    core = Core(model("a", concurrency=2), budget=300)
    core.bring("a", at=0)
    core.ask("a", at=1)
    begun = core.ask("a", at=1)
    core.gone("a", at=2, exceeded=299 * MIB, out_of_memory=True, sent=frozenset({begun}))
    assert core.rejected == {begun: "worker_died"}


def test_memory_limit_exceeded_after_a_run_is_no_failure_of_the_model() -> None:
    core = Core(model("a"), budget=300)
    core.bring("a", at=0)
    core.gone("a", at=1, exceeded=299 * MIB, out_of_memory=True)
    assert (core["a"].health.failures, core["a"].health.overruns) == (0, 1)


def test_load_beyond_its_memory_limit_is_given_more_up_to_the_whole_budget() -> None:
    core = Core(model("a", idle=100, activation=10), budget=500)
    core.ask("a", at=0)
    assert brief(core.gone("a", at=1, exceeded=180 * MIB, out_of_memory=True)) == ["start a#2"], "at once"
    assert core["a"].footprint.load == Figure(360 * MIB, Origin.ESTIMATED)
    assert core["a"].health.failures == 0
    assert core.gone("a", at=2, exceeded=400 * MIB, out_of_memory=True) == [], "after a pause"
    assert brief(core.ring()) == ["start a#3"]
    assert core.state.ledger.accounts[3].held == 500 * MIB, "all there is"
    why = "it took more"
    core.gone("a", at=6, exceeded=520 * MIB, out_of_memory=True, detail=why)
    assert core["a"].health.failures == 1, "now it is the model"
    core.ring()
    assert brief(core.gone("a", at=9, exceeded=520 * MIB, out_of_memory=True, detail=why)) == [
        "reject 1: model_failed"
    ]


def test_load_that_succeeds_replaces_the_raised_figure() -> None:
    core = Core(model("a", idle=100, activation=10), budget=500)
    core.ask("a", at=0)
    core.gone("a", at=1, exceeded=180 * MIB, out_of_memory=True)
    core.send(WorkerReady(core.workers["a"], 200 * MIB, 210 * MIB, 1.0), at=2)
    assert core["a"].footprint.load == Figure(210 * MIB, Origin.MEASURED)


def test_requested_exit_is_no_failure() -> None:
    core = Core(model("a", keep_alive=5))
    core.bring("a")
    assert brief(core.ring()) == ["stop a#1: keep_alive"]
    core.gone("a", seconds=0.4)
    assert (core["a"].health.failures, core["a"].state) == (0, "stopped")
    assert core["a"].footprint.exit_seconds.value == 0.4


def test_out_of_memory_is_retried_once_alone() -> None:
    core = Core(model("a"))
    request = core.ask("a")
    core.ready("a")
    failed = RequestFailed(request, 1, sent=False, out_of_memory=True)
    assert brief(core.send(failed)) == ["trim a#1"], "what its allocator keeps is in the way"
    assert core.send(Trimmed(1)) == [Dispatch("a", 1, (request,))]
    detail = "a ran out of memory on this request; make it smaller"
    assert core.send(failed)[1:] == [Reject(request, Rejection(RejectReason.OUT_OF_MEMORY, detail, 10.0))]


def test_out_of_memory_after_a_part_was_sent_is_not_retried() -> None:
    core = Core(model("a"))
    core.ask("a")
    core.ready("a")
    assert brief(core.send(RequestFailed(1, 1, sent=True, out_of_memory=True))) == [
        "trim a#1",
        "reject 1: out_of_memory",
    ]


def test_second_kill_for_memory_is_rejected_as_out_of_memory() -> None:
    core = Core(model("a"))
    core.ask("a")
    core.ready("a")
    assert brief(core.gone("a", out_of_memory=True)) == ["start a#2"]
    core.ready("a")
    assert brief(core.gone("a", out_of_memory=True)) == ["reject 1: out_of_memory"]


def test_engine_error_ends_the_request() -> None:
    core = Core(model("a"))
    request = core.ask("a")
    core.ready("a")
    assert core.send(RequestFailed(request, 1, sent=False)) == [
        Reject(request, Rejection(RejectReason.ENGINE, "a could not answer this request"))
    ]


def test_failure_of_a_request_whose_client_left_is_not_reported() -> None:
    core = Core(model("a", concurrency=2))
    core.ask("a")
    core.ask("a")
    core.ready("a")
    for request in (1, 2):
        core.send(RequestCancelled(request))
    assert core.send(RequestFailed(1, 1, sent=True)) == []
    assert core.gone("a") == [], "a death is not either, and nothing is started for it"
    assert core.rejected == {}


def test_load_out_of_memory_is_retried_once_alone_with_a_margin() -> None:
    core = Core(model("a", idle=200, load_seconds=5), model("b", load_seconds=1), budget=400)
    core.bring("b", at=0)
    core.ask("a", at=10)
    assert brief(core.gone("a", at=12, out_of_memory=True)) == []
    assert core["a"].footprint.margin == 32 * MIB
    assert core.timer == 13.0, "after a pause"
    assert brief(core.ring()) == ["start a#3"]
    assert core.state.ledger.accounts[3].held == 232 * MIB
    core.send(RequestCancelled(core.ask("b", at=14)))
    assert brief(core.gone("a", at=15, out_of_memory=True)) == ["reject 2: model_failed"], "once, not again and again"


def test_no_other_model_loads_beside_a_load_with_a_margin() -> None:
    core = Core(model("a"), model("b"), model("c"), budget=1000)
    core.ask("a", at=0)
    core.gone("a", at=1, out_of_memory=True)
    assert brief(core.ring()) == ["start a#2"]
    core.ask("b", at=2.1)
    assert core.did == []
    assert brief(core.ready("a", at=3)) == ["run a#2: 1", "start b#3"]


def test_load_with_a_margin_waits_for_other_loads_to_end() -> None:
    core = Core(model("a"), model("b"), budget=1000)
    core.ask("a", at=0)
    core.gone("a", at=1, out_of_memory=True)
    core.ask("b", at=1.5)
    assert brief(core.did) == ["start b#2"]
    assert core.ring() == []
    assert brief(core.ready("b", at=3)) == ["run b#2: 2", "start a#3"]


def test_a_margin_leaves_the_model_feasible_and_fades_with_success() -> None:
    core = Core(model("a", idle=100, activation=10), budget=120)
    request = core.ask("a", at=0)
    core.gone("a", at=1, out_of_memory=True)
    assert core["a"].footprint.margin == 10 * MIB, "no more than there is"
    core.ring()
    core.ready("a", at=3)
    assert core["a"].footprint.margin == 0, "the last of it goes at once"
    core.done("a", request, at=4)
    footprint = core["a"].footprint
    footprint.widen(1000 * MIB)
    footprint.widen(1000 * MIB)
    assert footprint.margin == 64 * MIB
    footprint.learn_run(0)
    assert footprint.margin == 48 * MIB


def test_out_of_memory_while_over_the_budget_adds_no_margin() -> None:
    core = Core(model("a"), budget=300)
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.measured(at=2, total=300, foreign=250)
    core.send(RequestFailed(1, 1, sent=False, out_of_memory=True), at=3)
    assert core["a"].footprint.margin == 0


def test_draining_worker_is_not_trimmed_after_out_of_memory() -> None:
    core = Core(model("a", load_seconds=1), model("b", load_seconds=1, max_wait=5), budget=150)
    running = core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=2)
    core.ring()
    assert core.draining == ["a"]
    commands = brief(core.send(RequestFailed(running, 1, sent=True, out_of_memory=True), at=8))
    assert commands == [f"reject {running}: out_of_memory", "stop a#1: evicted"]


def test_request_blamed_for_a_hang_is_rejected_and_the_others_are_retried() -> None:
    core = Core(model("a", concurrency=3))
    first, second, blamed = core.ask("a"), core.ask("a"), core.ask("a")
    core.ready("a")
    commands = brief(core.gone("a", at=5, blamed=frozenset({blamed}), detail="its runs made no progress"))
    assert f"reject {blamed}: stalled" in commands
    assert "start a#2" in commands
    assert brief(core.ready("a")) == [f"run a#2: {first}"], "alone"
    assert brief(core.done("a", first)) == [f"run a#2: {second}"]
    assert core.rejected == {blamed: "stalled"}


def test_blamed_request_whose_client_has_left_is_only_forgotten() -> None:
    core = Core(model("a"))
    blamed = core.ask("a")
    core.ready("a")
    core.send(RequestCancelled(blamed))
    core.gone("a", at=5, blamed=frozenset({blamed}))
    assert core.rejected == {}
    assert core.state.requests == {}


def test_failed_load_is_retried_behind_the_waiters_that_it_held_up() -> None:
    core = two(max_wait=5)
    core.bring("b")
    first = core.ask("a", at=10)
    assert "stop b#1: evicted" in brief(core.did)
    core.gone("b", at=10.1)
    held_up = core.ask("b", at=11)
    commands = brief(core.gone("a", at=70, detail="it did not load within 60 s"))
    assert commands == ["start b#3"], "b has waited longer than a since that failed"
    core.ready("b", at=71)
    core.done("b", held_up, at=71.1)
    while "a" not in core.workers or core["a"].worker is None:
        core.measured(at=core.now + 1)
        if core["b"].state == "stopping":
            core.gone("b", at=core.now)
    core.ready("a")
    assert core["a"].run.requests.keys() == {first}
