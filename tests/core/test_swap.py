"""The one swap at a time: free bytes go to it, and it is cancelled when no request needs it."""

from cohabit.core.events import RequestCancelled, Started
from cohabit.core.model_state import Reclaim
from core.driver import MIB, Core, brief, model, two


def test_freed_bytes_go_to_the_swap() -> None:
    core = Core(
        model("a", idle=100, activation=60, concurrency=2),
        model("b", idle=100, activation=10, load_seconds=0.5),
        model("c", idle=250, activation=20, load_seconds=1),
        budget=420,
    )
    core.bring("a", at=0)
    core.bring("b", at=1)
    core.ask("c", at=50)
    assert brief(core.did) == ["stop b#2: evicted"], "100 at rest + 270 fit"
    assert core.state.swap is not None
    assert core.state.swap.need == 270 * MIB
    core.ask("a", at=50.1)
    assert core.did == [], "its 60 would eat what c was promised"
    assert brief(core.gone("b", at=50.2)) == ["start c#3", "run a#1: 4"], "c has its bytes; a the rest"
    assert core.ready("c", at=51.2) == []
    assert core.done("a", 4, at=51.3) == [], "a's allocator may keep what the run took"
    assert brief(core.measured(at=51.4)) == ["run c#3: 3"]


def test_run_that_takes_no_bytes_of_the_swap_starts_during_it() -> None:
    core = Core(model("a", activation=10), model("b"), model("c", load_seconds=1), budget=230)
    core.bring("a", at=0)
    core.bring("b", at=1)
    core.done("a", core.ask("a", at=2))
    core.measured(at=3)
    core.ask("c", at=50)
    assert brief(core.did) == ["stop b#2: evicted"]
    core.ask("a", at=50.1)
    assert brief(core.did) == ["run a#1: 5"], "110 + 110 of c"


def test_swap_is_cancelled_when_its_last_client_leaves_and_its_victims_go_on_serving() -> None:
    core = two()
    running = core.ask("a", at=0)
    core.ready("a", at=1)
    waiters = [core.ask("b", at=100), core.ask("b")]
    core.ring()
    kept = core.ask("a")
    assert core.draining == ["a"]
    assert core.send(RequestCancelled(waiters[0])) == []
    assert core.draining == ["a"], "another one waits still"
    assert core.send(RequestCancelled(waiters[1])) == []
    assert core.state.swap is None
    assert core.draining == []
    assert brief(core.done("a", running)) == [f"run a#1: {kept}"], "nobody was evicted for a client that has left"


def test_stopping_victim_is_started_again_as_a_new_worker_only() -> None:
    core = two()
    core.bring("a", at=0)
    waiter = core.ask("b", at=10)
    assert brief(core.did) == ["stop a#1: evicted"]
    assert core.send(RequestCancelled(waiter)) == []
    core.ask("a", at=10.01)
    assert core.did == [], "it is on its way out; its next start is a new worker"
    assert brief(core.gone("a", at=10.1)) == ["start a#2"]
    assert brief(core.ready("a", at=11)) == ["run a#2: 3"]


def test_load_that_has_begun_is_completed_after_its_client_left() -> None:
    core = two()
    core.ask("a", at=0)
    assert core.send(RequestCancelled(1)) == []
    core.ask("b", at=0.1)
    assert core.did == []
    assert core.ready("a", at=1) == []
    assert core.timer == 2.0, "then it is an ordinary idle model"
    assert brief(core.ring()) == ["stop a#1: evicted"]


def test_second_waiter_takes_no_victim_before_the_first_swap_is_done() -> None:
    core = Core(*(model(name, load_seconds=1) for name in "abcd"), budget=240)
    core.bring("a", at=0)
    core.bring("b", at=1)
    core.ask("c", at=100)
    assert brief(core.did) == ["stop a#1: evicted"]
    core.ask("d", at=100)
    assert core.did == [], "one swap, one victim"
    assert brief(core.gone("a", at=100.1)) == ["start c#3", "stop b#2: evicted"], "c holds all it needs; d's turn"
    assert brief(core.gone("b", at=100.2)) == ["start d#4"]


def test_victim_that_dies_makes_room_like_one_that_is_stopped() -> None:
    core = two()
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=100)
    core.ring()
    assert core.draining == ["a"]
    assert brief(core.gone("a", at=102, sent=frozenset({1}))) == ["reject 1: worker_died", "start b#2"]


def test_swap_takes_more_victims_when_the_budget_shrinks() -> None:
    core = Core(*(model(name, load_seconds=1) for name in "ab"), model("c", load_seconds=1), budget=230)
    core.bring("a", at=0)
    core.bring("b", at=1)
    core.ask("a", at=50)
    core.ask("b", at=50)
    core.ask("c", at=60)
    core.ring()
    assert core.state.swap is not None
    assert core.state.swap.victims == {1: Reclaim.STOP}
    core.measured(at=61.5, total=150)
    assert core.state.swap is not None
    assert list(core.state.swap.victims) == [1, 2], "the device has shrunk: one is not enough any more"


def test_runs_that_block_a_load_are_held_up_only_after_the_waiter_waited_for_the_cost_of_a_swap() -> None:
    # b fits beside an idle a (100 + 100 + 60), not beside a running one while it loads (160 + 160)
    core = Core(model("a", activation=60, concurrency=2), model("b", load=160, load_seconds=3), budget=290)
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=50)
    assert core.did == []
    assert not core.state.swap
    core.ask("a", at=50.5)
    assert brief(core.did) == ["run a#1: 3"], "a goes on for now"
    assert core.ring() == []
    assert core.now == 53.0
    assert core.state.swap is not None
    assert core.state.swap.victims == {}
    core.ask("a", at=53.5)
    assert core.did == [], "its runs end, and no new one begins"
    assert core.done("a", 1, at=54) == []
    assert core.done("a", 3, at=54.1) == []
    assert brief(core.measured(at=54.2)) == ["start b#2"]


def test_preload_gets_no_room_made_once_its_client_left() -> None:
    core = Core(model("a", preload=True), model("b", preload=True), budget=150)
    core.send(Started())
    core.ready("a")
    running = core.ask("a", at=10.0)
    request = core.ask("b", at=10.0)
    core.now = 20.0
    core.measured()
    assert core.draining == ["a"]
    core.send(RequestCancelled(request))
    assert core.draining == []
    assert core.done("a", running) == []
