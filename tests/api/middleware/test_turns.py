"""Requests that come together begin a few at a time, and answers pass between them."""

import asyncio
import socket
from collections.abc import Iterator

import httpx2
import pytest
from starlette.types import Message, Receive, Scope, Send

from api.driving import FakeService, as_asked
from cohabit.api.middleware.turns import PER_ROUND, Turns
from cohabit.runtime.requests import Answer, Call

CROWD = 3 * PER_ROUND + 1


async def receive() -> Message:
    """Nothing is read."""
    raise AssertionError


async def send(message: Message) -> None:
    """Nothing is said."""
    raise AssertionError


class Rounds:
    """Counts the rounds of the running event loop."""

    def __init__(self) -> None:
        self.now = 0
        self._handle = asyncio.get_running_loop().call_soon(self._count)

    def _count(self) -> None:
        self.now += 1
        self._handle = asyncio.get_running_loop().call_soon(self._count)

    def stop(self) -> None:
        """Count no more."""
        self._handle.cancel()


class Begun:
    """An app that notes who began, and in which round."""

    def __init__(self) -> None:
        self.order: list[int] = []
        self.at: list[int] = []
        self.rounds = Rounds()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note it."""
        self.order.append(scope["number"])
        self.at.append(self.rounds.now)


def crowd(app: Turns, size: int = CROWD) -> list[asyncio.Task[None]]:
    """Requests that all come now."""

    async def one(number: int) -> None:
        await app({"number": number}, receive, send)

    return [asyncio.create_task(one(number)) for number in range(size)]


async def test_few_begin_in_one_round_and_in_order() -> None:
    app = Begun()
    await asyncio.gather(*crowd(Turns(app)))
    app.rounds.stop()
    assert app.order == list(range(CROWD))
    assert max(app.at.count(each) for each in set(app.at)) == PER_ROUND
    assert app.at[-1] - app.at[0] <= 3 + 1  # rounds with nobody in them, but one, would be time lost


async def test_one_alone_waits_for_nothing() -> None:
    app = Begun()
    turns = Turns(app)
    for _ in range(PER_ROUND):
        with pytest.raises(StopIteration):
            turns({"number": 0}, receive, send).__await__().send(None)  # to its end without a pause
    app.rounds.stop()
    assert len(app.order) == PER_ROUND


async def test_who_comes_later_does_not_overtake() -> None:
    app = Begun()
    turns = Turns(app)
    first = crowd(turns)
    await asyncio.sleep(0)
    assert len(app.order) == PER_ROUND
    late = asyncio.create_task(turns({"number": CROWD}, receive, send))
    await asyncio.gather(*first, late)
    app.rounds.stop()
    assert app.order == [*range(CROWD), CROWD]


class Counted(Turns):
    """Counts its rounds."""

    rounds = 0

    def _next_round(self) -> None:
        self.rounds += 1
        super()._next_round()


async def test_after_a_crowd_the_next_begins_at_once() -> None:
    app = Begun()
    turns = Counted(app)
    await asyncio.gather(*crowd(turns))
    for _ in range(20):
        await asyncio.sleep(0)
    assert turns.rounds <= 4  # then the loop is left to rest
    with pytest.raises(StopIteration):
        turns({"number": CROWD}, receive, send).__await__().send(None)
    app.rounds.stop()


async def test_who_left_while_waiting_holds_nobody_up() -> None:
    app = Begun()
    tasks = crowd(Turns(app))
    await asyncio.sleep(0)
    for task in tasks[PER_ROUND : 2 * PER_ROUND + 1]:
        task.cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    app.rounds.stop()
    assert app.order == [*range(PER_ROUND), *range(2 * PER_ROUND + 1, CROWD)]
    assert sum(isinstance(each, asyncio.CancelledError) for each in done) == PER_ROUND + 1


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


async def test_an_answer_passes_between_requests(pair: tuple[socket.socket, socket.socket]) -> None:
    """What a worker says while a crowd begins is heard before the last of them begins."""
    ours, theirs = pair
    seen: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append("begun")
        if len(seen) == 1:
            theirs.send(b"!")  # as fast as a worker can be

    def heard() -> None:
        seen.append(ours.recv(1).decode())

    asyncio.get_running_loop().add_reader(ours, heard)
    await asyncio.gather(*crowd(Turns(app)))
    asyncio.get_running_loop().remove_reader(ours)
    assert seen.index("!") == PER_ROUND


async def test_the_app_has_it(service: FakeService, http: httpx2.AsyncClient) -> None:
    rounds = Rounds()
    asked: list[int] = []

    def reply(call: Call, answer: Answer) -> None:
        asked.append(rounds.now)
        as_asked(call, answer)

    service.reply = reply
    body = {"model": "embeddings", "input": "hello"}
    answers = await asyncio.gather(*(http.post("/v1/embeddings", json=body) for _ in range(CROWD)))
    rounds.stop()
    assert [each.status_code for each in answers] == [200] * CROWD
    assert max(asked.count(each) for each in set(asked)) == PER_ROUND
