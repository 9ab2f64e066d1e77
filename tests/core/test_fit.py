"""Does it fit: while it loads, and afterwards for the largest run of any resident."""

from cohabit.core.fit import awaits_reading
from core.driver import MIB, Core, brief, model


def test_room_is_left_for_the_largest_run_of_any_resident() -> None:
    # 100 + 100 + 10 would do for b itself, but then a (working 100) could never run beside it
    core = Core(model("a", activation=100), model("b", load_seconds=1), budget=250)
    core.bring("a", at=0)
    core.ask("b", at=10)
    assert brief(core.did) == ["stop a#1: evicted"]


def test_ready_models_take_turns_where_their_activations_do_not_fit_together() -> None:
    # 100 + 100 + 60 fit, 100 + 100 + 60 + 60 do not
    core = Core(model("a", activation=60), model("b", activation=60), budget=270)
    core.bring("a", at=0)
    core.bring("b", at=1)
    core.ask("a", at=2)
    core.ask("b", at=2)
    assert core.did == []
    assert core.done("a", 3, at=3) == [], "not before it is seen to be free"
    assert brief(core.measured(at=3.1)) == ["run b#2: 4"]


def test_cached_memory_counts_as_the_models_own_activation() -> None:
    core = Core(model("a", activation=60), model("b", activation=10), budget=270)
    core.bring("a", at=0)
    core.measured(at=1, a=60)
    core.ask("b", at=2)
    assert brief(core.did) == ["start b#2"], "160 + 100 + 10: a's own run would reuse the 60"


def test_ready_model_that_lacks_memory_to_run_starts_a_swap() -> None:
    core = Core(model("a", activation=10), model("b"), budget=230)
    core.bring("a", at=0)
    core.bring("b", at=1)
    core.measured(at=100, total=205)  # the device has less than was thought
    core.ask("a", at=101)
    assert brief(core.did) == ["stop b#2: evicted"]
    assert core.state.swap is not None
    assert (core.state.swap.model, core.state.swap.need) == ("a", 10 * MIB)
    assert brief(core.gone("b", at=101.1)) == ["run a#1: 3"]
    assert core.state.swap is None


def test_a_batching_model_over_the_budget_gets_nothing_more() -> None:
    core = Core(model("a", concurrency=2), budget=150)
    core.ask("a")
    core.ready("a")
    core.measured(total=1000, foreign=950)
    core.ask("a")
    assert core.did == []
    assert brief(core.measured(total=1000, foreign=0)) == ["run a#1: 2"]


def test_reading_is_awaited_only_where_it_may_let_a_waiter_in() -> None:
    core = Core(model("a", activation=40), model("b"), budget=245)
    core.bring("a", at=0)
    core.done("a", core.ask("a", at=1), at=2)
    assert not awaits_reading(core.state), "nobody waits for what a has left"
    core.measured(at=2.1)
    core.done("a", core.ask("a", at=3), at=4)
    core.ask("b", at=4.1)
    assert core.did == [], "100 + 40 until it is seen what a keeps, and 110"
    assert awaits_reading(core.state)
    assert brief(core.measured(at=4.2)) == ["start b#2"]
    assert not awaits_reading(core.state)
    core.measured(at=5, total=150, foreign=100)
    assert awaits_reading(core.state), "over the budget"


def test_reading_is_awaited_where_foreign_memory_is_missing() -> None:
    core = Core(model("a"), model("b"), budget=245)
    core.bring("a", at=0)
    core.ask("a", at=1)
    core.measured(at=1.5, total=1000, foreign=800)
    assert not awaits_reading(core.state), "nobody waits"
    core.ask("b", at=2)
    assert core.did == [], "210 of 200"
    assert awaits_reading(core.state), "the others may have let go of it"
    assert brief(core.measured(at=2.1, total=1000, foreign=700)) == ["start b#2"]
