"""A client that hangs up is noticed, and nothing of its request stays."""

import asyncio
import gc
import weakref

from starlette.types import Message

from cohabit.api.middleware.disconnects import Watch
from harness import PATIENCE


class Client:
    """Hangs up when it is told to; its answer, too: what is cancelled."""

    def __init__(self) -> None:
        self.hangs_up = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def receive(self) -> Message:
        """Its disconnect."""
        await self.hangs_up.wait()
        return {"type": "http.disconnect"}

    def cancel(self) -> None:
        """Of its answer."""
        self.cancelled.set()


async def test_answer_is_cancelled_when_its_client_hangs_up() -> None:
    client = Client()
    with Watch(client.receive, client) as watch:
        client.hangs_up.set()
        await asyncio.wait_for(client.cancelled.wait(), PATIENCE)
        assert watch.gone


async def test_finished_answer_is_not_cancelled() -> None:
    client = Client()
    with Watch(client.receive, client) as watch:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not client.cancelled.is_set()
    assert not watch.gone


async def test_watched_answer_is_freed_without_the_garbage_collector() -> None:
    client = Client()
    freed = weakref.ref(client)
    gc.disable()
    try:
        with Watch(client.receive, client):
            await asyncio.sleep(0)
        for _ in range(3):
            await asyncio.sleep(0)  # the cancelled task ends
        del client
        assert freed() is None
    finally:
        gc.enable()
