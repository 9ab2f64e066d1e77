"""Which waiting requests run together, and what is reserved for them."""

import pytest

from cohabit.core.batching import MAX_BATCH_BYTES, form_batch, units_of
from cohabit.core.footprints import MeasuredRun
from cohabit.core.queues import ModelQueue, Request
from cohabit.protocol.messages import MAX_FRAME
from core.driver import MIB, Core, brief, model


def queue(*units: int, clients: str = "") -> ModelQueue:
    """Requests of these sizes, numbered from 1, each of one client unless named."""
    made = ModelQueue()
    for number, size in enumerate(units, start=1):
        client = clients[number - 1] if clients else ""
        made.push(Request(number, "m", client, float(number), units=size))
    return made


def taken(waiting: ModelQueue, most: int, bound: int = 1 << 30) -> list[int]:
    """The ids of a batch of at most so many, padded to at most so many units."""
    return [request.id for request in form_batch(waiting, most, lambda units: units <= bound)]


@pytest.mark.parametrize(
    ("units", "batch"),
    [
        ((5, 5, 5, 5), [1, 2, 3]),
        ((0, 0, 0, 0), [1, 2, 3]),
        ((10, 900, 11, 12, 800), [1, 3, 4]),
        ((900, 10, 11, 12, 800, 950), [5, 1, 6]),
        ((10, 900), [1, 2]),
    ],
)
def test_batch_takes_the_next_in_turn_and_the_nearest_in_length(units: tuple[int, ...], batch: list[int]) -> None:
    assert taken(queue(*units), 3) == batch


def heavy(*sizes: int) -> ModelQueue:
    """Requests of these sizes in MiB, numbered from 1."""
    made = ModelQueue()
    for number, size in enumerate(sizes, start=1):
        made.push(Request(number, "m", "", float(number), size=size * MIB))
    return made


@pytest.mark.parametrize(
    ("sizes", "batch"),
    [
        ((0, 31, 0, 31, 0, 31, 0, 0), [1, 3, 5, 7, 8, 6]),
        ((31, 0, 31, 0), [1, 2, 4]),
        ((60, 0, 0), [1]),
        ((0, 60, 0), [1, 3]),
        ((16, 16), [1, 2]),
        ((17, 16), [1]),
    ],
)
def test_a_batch_is_cut_by_bytes_so_that_no_neighbour_makes_it_too_large(
    sizes: tuple[int, ...], batch: list[int]
) -> None:
    waiting = heavy(*sizes)
    assert sorted(taken(waiting, 8)) == sorted(batch)
    left = [number for number in range(1, len(sizes) + 1) if number not in batch]
    assert [request.id for request in waiting] == left, "the others keep their turn"


def test_batch_leaves_room_for_the_message_around_it() -> None:
    assert MAX_BATCH_BYTES <= MAX_FRAME // 2


def test_request_left_out_of_a_batch_keeps_its_turn() -> None:
    waiting = queue(10, 900, 11, 12, 800)
    taken(waiting, 3)
    assert [request.id for request in waiting] == [2, 5]


def test_a_batch_is_cut_to_what_memory_takes_and_the_next_in_turn_stays_in() -> None:
    assert taken(queue(10, 11, 12, 13), 4, bound=30) == [1, 2]
    assert taken(queue(13, 12, 11, 10), 4, bound=30) == [4, 1]
    assert taken(queue(13, 12), 2, bound=1) == [1], "of one alone it is known that it fits"


def test_batch_looks_at_the_next_requests_only() -> None:
    far = queue(10, *[900] * 7, 10)
    assert taken(far, 2) == [1, 2], "the ninth is beyond four batches' worth"


def test_retried_request_runs_in_a_batch_of_its_own() -> None:
    waiting = queue(5, 5, 5)
    waiting.peek().retried = True
    assert taken(waiting, 3) == [1]
    waiting = queue(5, 5, 5)
    list(waiting)[1].retried = True
    assert taken(waiting, 3) == [1, 3]


def test_the_units_of_a_batch_are_padded_to_its_longest() -> None:
    waiting = list(queue(3, 7, 0))
    assert units_of(waiting[:2]) == 14
    assert units_of(waiting) == 0, "one of unknown size makes the whole unknown"


def sized() -> Core:
    """a, of which runs up to 8 and up to 64 units were measured, beside a resident b."""
    core = Core(model("a", activation=100, max_batch=4), model("b", activation=1), budget=300)
    core["a"].footprint.buckets = {3: MeasuredRun(8, 10 * MIB), 6: MeasuredRun(64, 50 * MIB)}
    core.bring("b", at=0)
    core.ask("a", at=1, units=8)
    return core


def test_run_reserves_by_its_size() -> None:
    core = sized()
    core.ready("a", at=2)
    account = core.state.ledger.accounts[2]
    assert account.activation == 10 * MIB
    core.done("a", 2, at=3, used=10)
    core.measured(at=3.1)
    core.ask("a", at=4, units=9)
    assert account.activation == 50 * MIB, "more than the 8 that were measured: the next larger"


def test_run_larger_than_any_measured_reserves_the_largest() -> None:
    core = sized()
    core.ready("a", at=2)
    core.done("a", 2, at=3, used=10)
    core.measured(at=3.1)
    core.measured(at=3.5, total=260)
    core.ask("a", at=4, units=64)
    assert brief(core.did) == ["run a#2: 3"]
    core.done("a", 3, at=5, used=50)
    core.measured(at=5.1, total=260)
    core.ask("a", at=6, units=65)
    assert brief(core.did) == ["stop b#1: evicted"], "200 + 100 are more than there is"


def test_a_batch_grows_as_far_as_memory_goes() -> None:
    core = sized()
    core.ask("a", at=1.1, units=32)
    core.ask("a", at=1.2, units=33)
    core.measured(at=1.5, total=290)
    assert brief(core.ready("a", at=2)) == ["run a#2: 2 3"], "three of 33 would be 99 units, more than known to fit"


def test_overlapping_runs_reserve_the_largest() -> None:
    core = Core(model("a", activation=100, concurrency=2))
    core["a"].footprint.buckets = {3: MeasuredRun(8, 10 * MIB)}
    core.ask("a", at=0, units=8)
    core.ready("a", at=1)
    assert core.state.ledger.accounts[1].activation == 100 * MIB
    core.done("a", 1, at=2)
    assert core["a"].footprint.buckets == {3: MeasuredRun(8, 10 * MIB)}, "and teach nothing of sizes"


def test_activation_of_a_run_is_remembered_by_size() -> None:
    core = Core(model("a", activation=100))
    footprint = core["a"].footprint
    footprint.learn_run(5 * MIB, 3)
    footprint.learn_run(3 * MIB, 4)
    assert footprint.buckets == {2: MeasuredRun(4, 5 * MIB)}
    footprint.learn_run(20 * MIB, 5)
    assert footprint.activation_for(4) == 5 * MIB
    assert footprint.activation_for(5) == 20 * MIB
    assert footprint.activation_for(6) == 100 * MIB, "5 units are no bound for 6"
    assert footprint.activation_for(0) == 100 * MIB
    footprint.learn_run(50 * MIB, 1)  # a small one that took more: the envelope holds for all above it
    assert footprint.activation_for(5) == 50 * MIB
