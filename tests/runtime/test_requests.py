"""An answer as the api takes it and the runtime fills it."""

import asyncio

import pytest

from cohabit.core.commands import Rejection, RejectReason
from cohabit.protocol.messages import CREDIT_BYTES, CREDIT_CHUNKS
from cohabit.runtime.requests import ResponseFailed, ResponseStream


class Told:
    """What the runtime heard of an answer."""

    def __init__(self) -> None:
        self.cancelled: list[int] = []
        self.taken: list[tuple[int, int, int]] = []
        self.answer = ResponseStream(
            7, cancel=self.cancelled.append, grant_credit=lambda *what: self.taken.append(what)
        )


FAILURE = ResponseFailed(rejection=Rejection(RejectReason.WORKER_DIED, "gone"))


async def test_chunks_in_order_then_the_end() -> None:
    told = Told()
    told.answer.put(b"a")
    told.answer.put(b"bc")
    told.answer.complete()
    assert [chunk async for chunk in told.answer] == [b"a", b"bc"]
    assert told.taken == [], "so little needs no credit"
    told.answer.cancel()
    assert told.cancelled == [], "nothing to cancel once it has ended"


async def test_some_takes_all_that_is_there_and_waits_for_more() -> None:
    told = Told()
    told.answer.put(b"a")
    told.answer.put(b"b")
    assert await told.answer.some() == [b"a", b"b"]
    waiting = asyncio.ensure_future(told.answer.some())
    await asyncio.sleep(0)
    assert not waiting.done()
    told.answer.put(b"c")
    assert await waiting == [b"c"]
    told.answer.complete()
    assert await told.answer.some() == []


async def test_failure_is_raised_after_the_chunks_before_it() -> None:
    told = Told()
    told.answer.put(b"a")
    told.answer.fail(FAILURE)
    told.answer.raise_early()
    assert await anext(told.answer) == b"a"
    with pytest.raises(ResponseFailed):
        await anext(told.answer)


async def test_failure_before_the_first_chunk_is_raised_at_once() -> None:
    told = Told()
    told.answer.fail(FAILURE)
    assert await told.answer.started(0)
    with pytest.raises(ResponseFailed):
        told.answer.raise_early()


async def test_started_tells_whether_anything_came_in_time() -> None:
    told = Told()
    assert not await told.answer.started(0)
    waiting = asyncio.ensure_future(told.answer.started(60))
    await asyncio.sleep(0)
    told.answer.put(b"a")
    assert await waiting


async def test_sent_is_what_was_taken() -> None:
    told = Told()
    told.answer.put(b"a")
    assert not told.answer.sent
    told.answer.restart()
    told.answer.put(b"b")
    assert await anext(told.answer) == b"b"
    sent: bool = told.answer.sent
    assert sent
    told.answer.cancel()
    told.answer.cancel()
    assert told.cancelled == [7]


async def test_credit_is_given_back_once_half_of_it_is_used() -> None:
    told = Told()
    for _ in range(CREDIT_CHUNKS // 2 - 1):
        told.answer.put(b"ab")
    await told.answer.some()
    assert told.taken == []
    told.answer.put(b"c")
    assert await anext(told.answer) == b"c"
    assert told.taken == [(7, CREDIT_CHUNKS // 2, CREDIT_CHUNKS - 1)]
    told.answer.put(bytes(CREDIT_BYTES // 2))
    await told.answer.some()
    assert told.taken[1:] == [(7, 1, CREDIT_BYTES // 2)], "bytes count too"
