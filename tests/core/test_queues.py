"""A model's waiting requests and the turns of its clients."""

import gc
from itertools import islice
from typing import Any, ClassVar

from cohabit.core.events import RequestFailed, Trimmed
from cohabit.core.queues import ModelQueue, Request
from core.driver import Core, brief, model


def test_clients_take_turns_and_the_longest_wait_is_known() -> None:
    queue = ModelQueue()
    requests = [Request(number, "m", client, float(number)) for number, client in enumerate("aaab")]
    for request in requests:
        queue.push(request)
    assert [request.id for request in queue] == [0, 3, 1, 2]
    assert queue.peek().id == 0
    queue.take(queue.peek())
    assert queue.peek().id == 3
    queue.push_front(requests[0])
    assert [request.id for request in queue] == [0, 3, 1, 2]
    queue.remove(requests[3])
    queue.remove(requests[0])
    assert (len(queue), queue.oldest) == (2, 1.0)
    queue.remove(requests[1])
    queue.remove(requests[2])
    assert not queue


def test_requeued_request_keeps_its_clients_order() -> None:
    queue = ModelQueue()
    requests = [Request(number, "m", "a", float(number)) for number in range(3)]
    queue.push(requests[2])
    for request in requests[:2]:
        queue.push_front(request)
    assert [request.id for request in queue] == [0, 1, 2]
    assert queue.oldest == 0.0


def test_request_taken_from_the_middle_is_requeued_once() -> None:
    queue = ModelQueue()
    requests = [Request(number, "m", "a", float(number)) for number in range(5)]
    for request in requests:
        queue.push(request)
    queue.remove(requests[0])
    queue.take(requests[2])
    queue.take(requests[3])
    queue.push_front(requests[3])
    queue.push_front(requests[2])
    assert [request.id for request in queue] == [1, 2, 3, 4]
    assert len(queue) == 4
    for request in requests[1:]:
        assert queue.peek() is request
        queue.take(request)
    assert not queue


def test_first_requests_are_found_without_a_walk_over_all() -> None:
    class Seen(Request):
        looked_at: ClassVar[set[int]] = set()

        def __getattribute__(self, name: str) -> Any:
            if name == "queued":
                Seen.looked_at.add(object.__getattribute__(self, "id"))
            return object.__getattribute__(self, name)

    queue = ModelQueue()
    for number in range(100):
        queue.push(Seen(number, "m", "ab"[number % 2], float(number)))
    Seen.looked_at.clear()
    assert [request.id for request in islice(queue, 3)] == [0, 1, 2]
    assert len(Seen.looked_at) <= 4


def test_many_requests_of_one_client_do_not_delay_another() -> None:
    core = Core(model("a"))
    for _ in range(4):
        core.ask("a", client="many")
    core.ask("a", client="one")
    assert brief(core.ready("a")) == ["run a#1: 1"]
    assert brief(core.done("a", 1)) == ["run a#1: 5"]
    assert brief(core.done("a", 5)) == ["run a#1: 2"]
    assert brief(core.done("a", 2)) == ["run a#1: 3"]


def test_a_batch_that_ran_out_of_memory_is_retried_in_order() -> None:
    core = Core(model("a", max_batch=3))
    for at in (0.0, 0.1, 0.2):
        core.ask("a", at=at)
    assert brief(core.ready("a", at=1)) == ["run a#1: 1 2 3"]
    for request in (2, 1):
        assert core.send(RequestFailed(request, 1, sent=False, out_of_memory=True)) == []
    assert brief(core.send(RequestFailed(3, 1, sent=False, out_of_memory=True))) == ["trim a#1"]
    assert brief(core.send(Trimmed(1))) == ["run a#1: 1"]


def test_an_empty_queue_keeps_nothing_of_its_clients() -> None:
    queue = ModelQueue()
    for number in range(3):
        queue.push(Request(number, "m", f"client {number}", 0.0))
    while queue:
        queue.take(queue.peek())
    gc.collect()
    kept = [one for one in gc.get_objects() if isinstance(one, Request) and one.client.startswith("client ")]
    assert kept == []
