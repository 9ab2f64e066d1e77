"""A core that does as it is told: carries commands out on real processes and waits for what they end in."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

from cohabit.core.commands import Command, Dispatch, SleepWorker, StartWorker, StopCause, StopWorker, WakeWorker
from cohabit.core.events import Event, RequestFinished, Slept, WorkerExited, WorkerReady
from cohabit.protocol.messages import Finished
from cohabit.protocol.spec import Device, ModelSpec
from cohabit.runtime.effects import Effects
from cohabit.runtime.inflight import InFlightRequests
from cohabit.runtime.requests import ModelRequest, ResponseStream
from cohabit.runtime.workers.supervisor import Launch, Supervisor
from harness import PATIENCE

E = TypeVar("E", bound=Event)


class Driver:
    """Of one model ``m`` with one worker at a time."""

    def __init__(self, launches: Mapping[str, Launch]) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        post = self.events.put_nowait
        self.inflight = InFlightRequests(post=post, watcher=self)
        self.supervisor = Supervisor(
            launches,
            Device("cpu"),
            on_message=self.inflight.on_message,
            on_worker_lost=self.inflight.on_worker_lost,
            post=post,
            fail=self.fail,
        )
        self.effects = Effects(self.supervisor, self.inflight, halt=lambda: None)
        self._requests = 0

    def fail(self, task: str, error: BaseException) -> None:
        """Nothing of a test fails unnoticed."""
        raise AssertionError(task) from error

    def answered(self, model: str, finished: Finished) -> None:
        """Nothing is counted."""

    async def done(self, command: Command, kind: type[E]) -> E:
        """Carry it out; what it ended in."""
        self.effects.execute(command)
        return await self.next(kind)

    async def next(self, kind: type[E]) -> E:
        """The next event, which must be of this kind."""
        event = await asyncio.wait_for(self.events.get(), PATIENCE)
        assert isinstance(event, kind), event
        return event

    async def started(self, worker: int = 1) -> WorkerReady:
        """Loaded."""
        return await self.done(StartWorker("m", worker), WorkerReady)

    async def slept(self, worker: int = 1) -> Slept:
        """Asleep."""
        return await self.done(SleepWorker("m", worker, StopCause.EVICTED, "for a test"), Slept)

    async def woken(self, worker: int = 1) -> WorkerReady:
        """Back."""
        return await self.done(WakeWorker("m", worker), WorkerReady)

    async def stopped(self, worker: int = 1) -> WorkerExited:
        """Gone."""
        return await self.done(StopWorker("m", worker, StopCause.EVICTED, "for a test"), WorkerExited)

    def arrived(self, call: ModelRequest) -> ResponseStream:
        """A request waits."""
        self._requests += 1
        return self.inflight.open(call.work(self._requests))

    async def ran(self, answer: ResponseStream, worker: int = 1) -> RequestFinished:
        """It is given to the worker and done."""
        return await self.done(Dispatch("m", worker, (answer.id,)), RequestFinished)

    async def ask(self, call: ModelRequest) -> bytes:
        """The whole answer."""
        answer = self.arrived(call)
        self.effects.execute(Dispatch("m", 1, (answer.id,)))
        data = b"".join([chunk async for chunk in answer])
        await self.next(RequestFinished)
        return data


@asynccontextmanager
async def driving(launch: Launch) -> AsyncIterator[Driver]:
    """A driver whose workers are gone at the end."""
    driver = Driver({"m": launch})
    try:
        yield driver
    finally:
        for worker in list(driver.supervisor.workers):
            driver.effects.execute(StopWorker("m", worker, StopCause.SHUTDOWN, "the test is over", kill=True))
        while driver.supervisor.workers:
            await asyncio.wait_for(driver.events.get(), PATIENCE)


def fake(**options: object) -> Launch:
    """The fake engine with these options."""
    spec = ModelSpec(name="m", engine="fake", options=options, concurrency=2)
    return Launch(lambda _cancelled: spec, threads=1)
