"""Whoever hangs up is noticed, however many others are watched over at that moment."""

import asyncio

from starlette.types import Message

from cohabit.api.middleware.disconnects import WATCHED_AFTER, Watch
from harness import PATIENCE


class Client:
    """Hangs up when it is told to; its answer, too: what is cancelled."""

    def __init__(self) -> None:
        self.hangs_up = asyncio.Event()
        self.asked = 0
        self.cancelled = asyncio.Event()

    async def receive(self) -> Message:
        """Its disconnect."""
        self.asked += 1
        await self.hangs_up.wait()
        return {"type": "http.disconnect"}

    def cancel(self) -> None:
        """Of its answer."""
        self.cancelled.set()


async def test_two_of_one_loop_that_come_one_after_the_other() -> None:
    first, second = Client(), Client()
    with Watch(first.receive, first):
        await asyncio.sleep(WATCHED_AFTER / 2)
        with Watch(second.receive, second):
            for client in (first, second):
                client.hangs_up.set()
                await asyncio.wait_for(client.cancelled.wait(), PATIENCE)


async def test_what_is_over_soon_is_not_watched_over() -> None:
    short, other = Client(), Client()
    with Watch(short.receive, short):
        pass
    with Watch(other.receive, other):
        other.hangs_up.set()
        await asyncio.wait_for(other.cancelled.wait(), PATIENCE)
    assert (short.asked, short.cancelled.is_set()) == (0, False)
