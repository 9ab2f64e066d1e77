"""The small parts by themselves."""

import pytest

from cohabit.core import invariants
from cohabit.core.averages import Average
from cohabit.core.events import RequestCancelled, RequestFinished, ShutdownRequested
from cohabit.core.eviction import Policy
from cohabit.core.footprints import Figure, Footprint, Origin
from cohabit.core.ledger import Ledger
from cohabit.core.lifecycle import InvalidTransition, Lifecycle, Move, State
from cohabit.core.queues import ModelQueue, Request
from core.driver import MIB, Core, model


def test_an_illegal_move_tells_how_it_came_to_it() -> None:
    life = Lifecycle()
    with pytest.raises(InvalidTransition, match="before: nothing"):
        life.move(Move.LOADED, 1.0)
    life.move(Move.START, 1.0)
    life.move(Move.STOP, 2.5)
    assert (life.state, life.since) == (State.STOPPING, 2.5)
    with pytest.raises(InvalidTransition, match=r"loaded while stopping; before: 1\.000 start -> starting, 2\.500"):
        life.move(Move.LOADED, 3.0)


def test_the_first_measurement_replaces_the_guess() -> None:
    average = Average(10.0, weight=0.5)
    average.add(2.0)
    assert average.value == 2.0
    average.add(4.0)
    assert average.value == 3.0


def figures() -> Footprint:
    """Declared: 100 resident, 120 load, 10 working."""
    declared = [Figure(size * MIB, Origin.DECLARED) for size in (100, 120, 10)]
    return Footprint(resident=declared[0], load=declared[1], working=declared[2])


def test_working_memory_is_only_raised_by_measuring() -> None:
    footprint = figures()
    footprint.learn_load(80 * MIB, 90 * MIB, 1.0)
    assert footprint.resident == Figure(80 * MIB, Origin.MEASURED)
    assert footprint.load_need == 90 * MIB
    footprint.learn_run(85 * MIB)
    assert footprint.working == Figure(10 * MIB, Origin.DECLARED), "one small run says nothing of the largest"
    footprint.learn_run(120 * MIB)
    assert footprint.working == Figure(40 * MIB, Origin.MEASURED)
    assert footprint.peak == 120 * MIB


def test_a_run_that_took_more_than_declared_is_booked_from_then_on() -> None:
    core = Core(model("a", resident=100, working=10), budget=300)
    request = core.ask("a")
    core.ready("a")
    core.send(RequestFinished(request, 1, 0.1, 150 * MIB))
    core.measured(at=1)
    core.ask("a")
    assert core.books.ledger.reserved == 150 * MIB


def test_the_effective_budget() -> None:
    ledger = Ledger(budget=500, keep_free=100, slots=1)
    assert ledger.effective_budget == 500, "before the first reading the owner's word counts"
    ledger.observe(1.0, total=1000, available=800, workers={})
    assert (ledger.foreign, ledger.effective_budget) == (200, 500)
    ledger.observe(2.0, total=1000, available=300, workers={})
    assert ledger.effective_budget == 200
    ledger.observe(3.0, total=1000, available=0, workers={})
    assert ledger.effective_budget == 0


def test_the_queue_gives_clients_turns_and_remembers_who_waits_longest() -> None:
    queue = ModelQueue()
    requests = [Request(number, "m", client, float(number)) for number, client in enumerate("aaab")]
    for request in requests:
        queue.push(request)
    assert [request.id for request in queue] == [0, 3, 1, 2]
    assert queue.pop().id == 0
    assert queue.peek().id == 3
    queue.push_front(requests[0])
    assert [request.id for request in queue] == [0, 3, 1, 2]
    queue.remove(requests[3])
    queue.remove(requests[0])
    assert (len(queue), queue.oldest) == (2, 1.0)


def test_lru_evicts_who_was_used_longest_ago() -> None:
    core = Core(*(model(name) for name in "abc"), budget=230, policy=Policy.LRU)
    core.bring("a", at=0)
    core.bring("b", at=1)
    core.done("a", core.ask("a", at=2), at=3)
    core.measured(at=4)
    core.ask("c", at=100)
    assert core["b"].state == "stopping"
    assert "lru" in core["b"].last_eviction


def test_a_second_cancel_is_not_sent() -> None:
    core = Core(model("a", max_run=5))
    request = core.ask("a", at=0)
    core.ready("a", at=1)
    core.ring()
    assert core.send(RequestCancelled(request)) == []


def test_a_worker_that_is_killed_at_the_end_of_a_drain_may_outlive_max_run() -> None:
    core = Core(model("a", max_run=5))
    core.ask("a", at=0)
    core.ready("a", at=1)
    core.send(ShutdownRequested(2), at=2)
    core.ring()
    core.send(ShutdownRequested(99))
    core.ring()
    assert core.now == 6
    assert core["a"].state == "stopping"


def test_broken_books_are_noticed() -> None:
    core = Core(model("a"))
    core.bring("a")
    core.books.ledger.slots_used = 1
    with pytest.raises(invariants.InvariantBroken, match="slots are taken by busy models only"):
        invariants.check(core.books)
