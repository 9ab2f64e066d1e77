"""Branch 3: which model is loaded, which is evicted for it, and when, to the second."""

import pytest

from cohabit.core.events import Started
from core.driver import Core, brief, model, two


def test_two_models_of_which_one_fits_are_served_in_turn() -> None:
    core = two()
    core.bring("a", at=0)
    core.ask("b", at=10)  # a has been idle for longer than its return costs
    assert brief(core.did) == ["stop a#1: evicted"]
    assert brief(core.gone("a", at=10.1)) == ["start b#2"]
    assert brief(core.ready("b", at=11.1)) == ["run b#2: 2"]
    core.done("b", 2, at=12)
    core.measured(at=12.1)
    core.ask("a", at=20)
    assert brief(core.did) == ["stop b#2: evicted"]
    assert brief(core.gone("b", at=20.1)) == ["start a#3"]
    assert brief(core.ready("a", at=21.1)) == ["run a#3: 3"]


# 3.3a: free room


def test_model_is_loaded_without_eviction_where_there_is_room() -> None:
    core = Core(model("a"), model("b"), budget=210)
    core.bring("a")
    core.ask("b")
    assert brief(core.did) == ["start b#2"], "100 + 100 + 10 of whoever runs"


def test_preload_takes_free_room_only() -> None:
    core = Core(model("a", preload=True), model("b", preload=True), budget=150)
    assert brief(core.send(Started())) == ["start a#1"]
    assert core.ready("a", at=1) == []
    assert core.measured(at=100) == [], "nobody waits for b, so nobody leaves for it"
    core.ask("a", at=101)
    assert brief(core.did) == ["run a#1: 1"]


def test_waiter_is_loaded_before_a_preload() -> None:
    core = Core(model("a", preload=True), model("b", preload=True), model("c"), budget=150)
    assert brief(core.send(Started(), at=0)) == ["start a#1"]
    core.ask("c", at=0)
    assert core.did == []
    assert brief(core.gone("a", at=1, permanent=True)) == ["start c#2"]


def test_more_urgent_waiter_is_loaded_first() -> None:
    core = Core(model("a"), model("slow", max_wait=100), model("quick", max_wait=10), budget=150)
    core.ask("a", at=0)
    core.ask("slow", at=1)
    core.ask("quick", at=5)
    assert core.did == []
    assert brief(core.gone("a", at=8, permanent=True)) == ["reject 1: model_failed", "start quick#2"], (
        "3 of 10 s are more than 7 of 100"
    )


# 3.3b: idle ones


def test_model_idle_for_less_than_its_return_seconds_counts_as_busy() -> None:
    core = two()
    core.bring("a", at=0)
    core.ask("b", at=0.5)
    assert core.did == []
    assert core.timer == 1.0
    assert brief(core.ring()) == ["stop a#1: evicted"]


def test_idle_time_counts_from_the_end_of_the_last_run() -> None:
    core = two()
    core.bring("a", at=0)
    core.done("a", core.ask("a", at=9), at=10)
    core.measured(at=10.1)
    core.ask("b", at=10.5)
    assert core.did == []
    assert core.timer == 11.0


# 3.3c: busy ones


def test_a_busy_model_serves_patience_times_the_cost_before_it_is_drained() -> None:
    core = two()
    busy = core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=1.5)
    assert core.did == []
    assert core.timer == 5.0, "came in at 1, patience 4 times 1 s"
    assert core.ring() == [], "a busy model is not evicted"
    assert core.draining == ["a"]
    core.ask("a", at=5.1)
    assert core.did == [], "a draining model takes nothing new"
    assert brief(core.done("a", busy, at=6)) == ["stop a#1: evicted"]
    assert brief(core.gone("a", at=6.1)) == ["start b#2"]


def test_cost_of_a_swap_is_the_exit_and_the_load() -> None:
    core = two(load_seconds=1.0, exit_seconds=0.5)
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=1.5)
    assert core.timer == 1 + 4 * 1.5


def test_waiter_waits_for_the_cost_of_a_swap_before_it_evicts() -> None:
    core = two()
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=100)  # a has long served its patience
    assert core.draining == []
    assert core.timer == 101.0
    core.ring()
    assert core.draining == ["a"]


def test_idle_models_are_evicted_before_busy_ones() -> None:
    core = Core(*(model(name, load_seconds=1) for name in "abc"), budget=220)
    core.bring("a", at=0)
    core.bring("b", at=1)
    for at in range(2, 9):
        core.done("b", core.ask("b", at=at), at=at + 0.5)
    core.measured(at=9)
    core.ask("a", at=50)  # a is the less useful, but runs now
    core.ask("c", at=50.1)
    assert brief(core.did) == ["stop b#2: evicted"]
    assert core.draining == []


# 3.3d: max_wait


def test_max_wait_beats_patience() -> None:
    core = two(max_wait=12.0, load_seconds=10.0)
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=2)
    core.ring()
    assert core.now == 14.0, "not 41"
    assert core.draining == ["a"]


def test_loaded_model_serves_for_as_long_as_its_load_took_whatever_max_wait_is() -> None:
    core = two(max_wait=2.0, load_seconds=10.0)
    core.ask("a", at=0)
    core.ready("a", at=7)
    core.ask("b", at=8)
    assert core.ring() == []
    assert core.now == 10.0
    assert core.draining == []
    core.ring()
    assert core.now == 14.0, "7 s, however long b's load takes"
    assert core.draining == ["a"]


def test_wait_behind_requests_of_the_same_model_does_not_count() -> None:
    core = two()
    first = core.ask("a", at=0)
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=2)
    core.ring()
    core.done("a", first, at=100)
    core.gone("a", at=100.1)  # a's second request has waited 100 s
    core.ready("b", at=101.1)
    assert core.timer == pytest.approx(105.1), "b serves its patience, not none"


def test_model_loaded_for_a_waiter_is_not_evicted_before_it_served() -> None:
    core = Core(model("a", slots=2), model("b", slots=2), model("c"), budget=260, slots=2)
    running = core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=1)
    core.ready("b", at=2)  # its waiter wants slots that a holds
    core.ask("c", at=20)
    core.ring()
    assert core.draining == ["a"]
    assert brief(core.done("a", running, at=21)) == ["run b#2: 2", "stop a#1: evicted"]


def test_max_wait_evicts_even_a_model_that_has_not_served() -> None:
    core = Core(model("a", pin=True, slots=2, idle=50), model("b", slots=2), model("c"), budget=210, slots=2)
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=1)
    core.ready("b", at=2)
    core.ask("c", at=20)
    assert core.did == []
    assert core.ring() == [], "nothing may happen until a's run ends"
    assert core.now == 32.0, "but b has been kept out for max_wait: nobody overtakes it now"
    assert brief(core.ring()) == ["stop b#2: evicted"]
    assert core.now == 50.0


def test_model_that_was_evicted_unserved_keeps_its_waiting_time() -> None:
    """It came in, slots were taken all the while, and it had to leave: that was no turn."""
    core = Core(model("a", pin=True, slots=2, idle=50), model("b", slots=2), model("c", max_wait=5.0), budget=210)
    core.state.ledger.slots = 2
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.ask("b", at=1)
    core.ready("b", at=2)
    core.ask("c", at=3)
    while core["b"].state != "stopping":
        core.ring()
    assert core.now == 32.0, "30 s to be given something, though c may wait for 5 s only"
    core.gone("b", at=32.1)
    assert core["b"].queue_waiting_since == 1.0
    assert core["c"].state == "starting"


# never


def test_a_pinned_model_is_never_evicted() -> None:
    core = Core(
        model("a", pin=True, activation=5), model("b", idle=40, activation=5), model("c", idle=40), budget=160
    )
    core.bring("a")
    core.bring("b", at=10)
    core.ask("c", at=1000)
    assert brief(core.did) == ["stop b#2: evicted"]


def test_a_starting_model_is_never_evicted() -> None:
    core = two(max_wait=2.0)
    core.ask("a", at=0)
    core.ask("b", at=0)
    assert core.ring() == []
    assert (core.now, core.timer) == (2.0, None), "overdue, and nobody to take it from until a is ready"
    assert brief(core.ready("a", at=5)) == ["run a#1: 1"]
    assert core.draining == []
    core.ring()
    assert (core.now, core.draining) == (9.0, ["a"]), (
        "its patience is over before it has served for the 5 s of its load"
    )


def test_model_of_the_swap_is_never_evicted_for_another() -> None:
    core = Core(model("a", activation=100), model("b"), model("c"), budget=320)
    core.bring("a", at=0)
    core.bring("b", at=1)
    core.measured(at=2, total=260)  # a can no longer run beside b
    core.ask("a", at=10)
    assert brief(core.did) == ["stop b#2: evicted"]
    core.ask("c", at=10)
    assert core.did == []
    assert core.measured(at=41, total=260) == [], "c is overdue, and a idle; but the swap is a's"
    assert core.draining == []
    assert brief(core.gone("b", at=42)) == ["run a#1: 3"]
    assert core.draining == ["a"], "it has been served: now it is c's turn"


# as few as suffice


def test_no_more_victims_than_needed() -> None:
    core = Core(
        model("small", idle=50, load_seconds=0.1),
        model("large", idle=200, load_seconds=5),
        model("new", idle=200, load_seconds=1),
        budget=300,
    )
    core.bring("small", at=0)
    core.bring("large", at=1)
    core.ask("new", at=100)
    assert brief(core.did) == ["stop large#2: evicted"], "small goes first by score, but need not go at all"


def test_several_victims_where_one_does_not_suffice() -> None:
    core = Core(model("a"), model("b"), model("new", idle=200, load_seconds=1), budget=220)
    core.bring("a", at=0)
    core.bring("b", at=1)
    core.ask("new", at=100)
    assert brief(core.did) == ["stop a#1: evicted", "stop b#2: evicted"]
    assert core.gone("b", at=101) == [], "it starts when all of its room is there"
    assert brief(core.gone("a", at=102)) == ["start new#3"]


def test_no_victim_for_a_model_that_would_still_not_fit() -> None:
    core = Core(model("a"), model("big", idle=150, max_wait=5), budget=200)
    core.bring("a", at=0)
    core.measured(at=1, total=150)
    core.ask("big", at=100)
    assert core.did == []
    assert brief(core.ring()) == ["reject 2: model_never_fits"]
    assert core.now == 105.0
    assert core["a"].state == "ready"


# what came in one batch


def test_a_model_finishes_its_part_of_a_batch_before_another_takes_its_place() -> None:
    core = two(max_wait=5.0)
    core.bring("a", at=0)
    parts = [core.ask("a", at=100, batch=1) for _ in range(3)]
    core.ask("b", at=100, batch=1)
    for at, part, following in zip(
        (120, 140, 160), parts, ("run a#1: 3", "run a#1: 4", "stop a#1: evicted"), strict=True
    ):
        core.measured(at=at - 1)  # b is long past its max_wait, and a has served its patience
        assert core.draining == []
        assert brief(core.done("a", part, at=at)) == [following]
    assert brief(core.gone("a", at=160.2)) == ["start b#2"]


def test_another_client_does_not_wait_for_a_batch() -> None:
    core = two(max_wait=5.0)
    core.bring("a", at=0)
    core.ask("a", at=100, batch=1)
    core.ask("b", at=100, batch=1)
    core.ask("b", at=101)
    core.ring()
    assert core.draining == ["a"]


def test_two_batches_do_not_hold_each_other() -> None:
    core = two(max_wait=5.0)
    core.bring("a", at=0)
    core.ask("a", at=100, batch=1)
    core.ask("b", at=100, batch=2)
    core.ring()
    assert core.draining == ["a"]


def test_model_of_the_same_batch_that_waits_for_a_slot_is_not_evicted() -> None:
    core = Core(model("a"), model("busy", idle=10), model("b", max_wait=5.0), budget=160, slots=1)
    core.bring("a", at=0)
    core.bring("busy", at=1)
    running = core.ask("busy", at=100)
    part = core.ask("a", at=100, batch=1)
    core.ask("b", at=100, batch=1)
    core.measured(at=109)
    assert core.draining == []
    assert brief(core.done("busy", running, at=110)) == ["run a#1: 4"]
    assert "stop a#1: evicted" in brief(core.done("a", part, at=120))


def test_model_of_the_same_batch_that_lacks_room_may_be_evicted() -> None:
    core = Core(model("a", activation=50), model("b", max_wait=5.0), budget=160)
    core.bring("a", at=0)
    core.measured(at=99, total=1000, foreign=860)  # 140 are left: a may stay and not run
    core.ask("a", at=100, batch=1)
    core.ask("b", at=100, batch=1)
    assert brief(core.ring()) == ["stop a#1: evicted"], "or the two would wait for each other"


def test_swap_is_sought_for_the_eight_most_urgent_waiters_and_others_take_free_room() -> None:
    crowd = [model(f"m{number}", idle=150) for number in range(8)]
    quick, little = model("quick", load_seconds=0.1), model("little", idle=20)
    core = Core(model("a"), *crowd, quick, little, budget=180)
    core.ask("a", at=0)
    core.ready("a", at=1)
    for one in crowd:
        core.ask(one.name, at=2)
    core.ask("quick", at=2.5)
    core.ask("little", at=2.5)
    assert brief(core.did) == ["start little#2"]
    assert core.timer == 5.0, "when a has served its patience for m0; for quick it will have at 2.6 s"
