"""The owner's word is waited for, whatever comes of it."""

import asyncio
from collections.abc import Sequence

from cohabit.core.admin import AdminRefusal, Objection
from cohabit.core.commands import Command, SleepWorker, StartWorker, StopWorker
from cohabit.core.controller import Controller
from cohabit.core.events import (
    AdminRequest,
    LoadRequested,
    PinRequested,
    RequestArrived,
    RequestFinished,
    SleepRequested,
    Slept,
    UnloadRequested,
    WorkerExited,
    WorkerReady,
)
from cohabit.core.ledger import Ledger
from cohabit.runtime.admin import AdminOutcome, AdminRequests, Ending
from cohabit.runtime.control_loop import ControlLoop
from core.driver import MIB, model


class Server:
    """The loop over a core with one model; its shell is the test."""

    def __init__(self, **settings: object) -> None:
        self.commands: list[Command] = []
        core = Controller([model("a", **settings)], Ledger(budget=1000 * MIB, keep_free=0, slots=1))  # type: ignore[arg-type]  # settings
        self.loop = ControlLoop(core, self.commands.append)
        self.owner = AdminRequests(self.loop)

    async def tell(self, asked: AdminRequest, within: float = 5.0) -> asyncio.Task[AdminOutcome | Objection]:
        """Asked, and not answered yet."""
        task = asyncio.create_task(self.owner.request(asked, within))
        await asyncio.sleep(0)
        return task

    async def bring(self) -> None:
        """The model is in."""
        word = await self.tell(LoadRequested("a"))
        self.loop.post(WorkerReady(1, 100 * MIB, 100 * MIB, 0.5))
        assert await word == AdminOutcome(Ending.DONE)

    def kinds(self) -> Sequence[type[Command]]:
        return [type(command) for command in self.commands]


async def test_a_load_that_ends_well_and_one_of_what_is_in() -> None:
    server = Server()
    await server.bring()
    assert server.kinds() == [StartWorker]
    assert await server.owner.request(LoadRequested("a"), 5.0) == AdminOutcome(Ending.DONE)


async def test_a_load_that_fails() -> None:
    server = Server()
    word = await server.tell(LoadRequested("a"))
    server.loop.post(WorkerExited(1, seconds=0.0, detail="there is no file x", permanent=True))
    assert await word == AdminOutcome(Ending.FAILED, "a does not start: there is no file x")


async def test_a_load_that_takes_too_long_and_is_forgotten() -> None:
    server = Server()
    assert await server.owner.request(LoadRequested("a"), 0.0) == AdminOutcome(Ending.UNDER_WAY)
    assert server.loop._observers == []


async def test_a_load_that_another_word_ends() -> None:
    server = Server()
    word = await server.tell(LoadRequested("a"))
    server.loop.post(UnloadRequested("a"))
    server.loop.post(WorkerExited(1, seconds=0.1))
    found = await word
    assert isinstance(found, AdminOutcome)
    assert found.ending is Ending.SUPERSEDED


async def test_an_unload_is_done_even_if_a_request_brings_it_back_at_once() -> None:
    server = Server()
    await server.bring()
    server.loop.post(RequestArrived(1, "a"))
    word = await server.tell(UnloadRequested("a"))
    server.loop.post(RequestArrived(2, "a"))
    server.loop.post(RequestFinished(1, 1, 0.1, 100 * MIB))
    assert not word.done()
    server.loop.post(WorkerExited(1, seconds=0.1))
    assert await word == AdminOutcome(Ending.DONE)
    assert isinstance(server.commands[-1], StartWorker)


async def test_an_unload_that_a_load_takes_back() -> None:
    server = Server()
    await server.bring()
    server.loop.post(RequestArrived(1, "a"))
    word = await server.tell(UnloadRequested("a"))
    server.loop.post(LoadRequested("a"))
    found = await word
    assert isinstance(found, AdminOutcome)
    assert found.ending is Ending.SUPERSEDED


async def test_an_unload_of_a_sleeper_takes_until_it_is_gone() -> None:
    server = Server(sleep_resident=10)
    await server.bring()
    word = await server.tell(SleepRequested("a"))
    assert server.kinds()[-1] is SleepWorker
    server.loop.post(Slept(1, 10 * MIB, 0.1))
    assert await word == AdminOutcome(Ending.DONE)
    word = await server.tell(UnloadRequested("a"))
    assert server.kinds()[-1] is StopWorker
    server.loop.post(WorkerExited(1, seconds=0.1))
    assert await word == AdminOutcome(Ending.DONE)


async def test_a_pin_is_done_at_once_and_an_objection_is_no_event() -> None:
    server = Server()
    assert await server.owner.request(PinRequested("a", pinned=True), 5.0) == AdminOutcome(Ending.DONE)
    found = await server.owner.request(UnloadRequested("a"), 5.0)
    assert isinstance(found, Objection)
    assert found.refusal is AdminRefusal.PINNED


async def test_a_model_whose_worker_dies_has_not_fallen_asleep() -> None:
    server = Server(sleep_resident=20)
    await server.bring()
    server.loop.post(RequestArrived(1, "a"))
    word = await server.tell(SleepRequested("a"))
    server.loop.post(WorkerExited(1, 0.0, sent=frozenset({1})))
    found = await word
    assert isinstance(found, AdminOutcome)
    assert found.ending is Ending.SUPERSEDED
