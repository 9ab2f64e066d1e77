"""The control loop hands events over in order, keeps the one timer, and stops at a core that contradicts itself."""

import asyncio
import time
from typing import Any

from cohabit.core.commands import Halt, SetTimer
from cohabit.core.events import ShutdownRequested, Started, TimerFired
from cohabit.runtime.loop import ControlLoop
from harness import PATIENCE


class Core:
    """Answers from a script."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.heard: list[Any] = []

    def handle(self, event: Any, now: float) -> Any:
        """The next answer."""
        assert now > 0
        self.heard.append(event)
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, Exception):
            raise answer
        return answer


async def test_events_in_order_and_commands_before_the_next() -> None:
    said: list[Any] = []
    core = Core([Halt()], [])
    loop = ControlLoop(core, lambda command: said.append((command, len(core.heard))))  # type: ignore[arg-type]  # a stand-in, or drawn fields
    loop.post(Started())
    assert core.heard == [Started()], "an event is taken where it is posted"
    loop.post(TimerFired())
    assert core.heard == [Started(), TimerFired()]
    assert said == [(Halt(), 1)]


async def test_what_a_command_posts_comes_after_the_commands_of_its_event() -> None:
    said: list[Any] = []
    core = Core([Halt(), SetTimer(None), Halt()])

    def execute(_command: Any) -> None:
        loop.post(TimerFired())
        said.append(len(core.heard))

    loop = ControlLoop(core, execute)  # type: ignore[arg-type]  # a stand-in, or drawn fields
    loop.post(Started())
    assert said == [1, 1]
    assert core.heard == [Started(), TimerFired(), TimerFired()]


async def test_what_may_wait_comes_after_whoever_was_woken_with_it_and_in_order() -> None:
    told: list[Any] = []
    core = Core()
    loop = ControlLoop(core, print, [lambda event, *_: told.append(event)])  # type: ignore[arg-type]  # a stand-in, or drawn fields
    running = asyncio.get_running_loop()
    for number in range(3):  # as what a worker says in one piece: each wakes a client and tells the core
        running.call_soon(told.append, number)
        loop.post_soon(ShutdownRequested(number))
    assert told == []
    for _round in range(4):
        await asyncio.sleep(0)
    assert told == [0, 1, 2, *map(ShutdownRequested, range(3))]
    loop.post_soon(TimerFired())
    loop.post(Started())
    assert told[6:] == [TimerFired(), Started()], "not overtaken by what is posted after it"
    for _round in range(4):
        await asyncio.sleep(0)
    assert len(told) == 8, "taken once"


async def test_the_timer_posts_and_can_be_taken_back() -> None:
    fired = asyncio.Event()
    core = Core([SetTimer(0.0)], [SetTimer(1e12)], [SetTimer(None)])
    loop = ControlLoop(core, print, [lambda event, *_: fired.set() if event == TimerFired() else None])  # type: ignore[arg-type]  # a stand-in, or drawn fields
    loop.post(Started())
    await asyncio.wait_for(fired.wait(), PATIENCE)
    assert core.heard == [Started(), TimerFired()]
    assert loop._due == 1e12
    loop.post(Started())
    loop._ring()
    assert core.heard == [Started(), TimerFired(), Started()], "one that was taken back does not fire"


async def test_a_timer_that_moved_later_fires_then_and_not_before() -> None:
    fired = asyncio.Event()
    began = time.monotonic()
    core = Core([SetTimer(began + 0.02)], [SetTimer(began + 0.06)], [])
    loop = ControlLoop(core, print, [lambda event, *_: fired.set() if event == TimerFired() else None])  # type: ignore[arg-type]  # a stand-in, or drawn fields
    loop.post(Started())
    loop.post(Started())
    await asyncio.wait_for(fired.wait(), PATIENCE)
    assert time.monotonic() >= began + 0.06
    assert core.heard == [Started(), Started(), TimerFired()]
    assert loop._timer is None


async def test_a_timer_that_moved_earlier_fires_early() -> None:
    fired = asyncio.Event()
    core = Core([SetTimer(time.monotonic() + 60)], [SetTimer(time.monotonic())])
    loop = ControlLoop(core, print, [lambda event, *_: fired.set() if event == TimerFired() else None])  # type: ignore[arg-type]  # a stand-in, or drawn fields
    loop.post(Started())
    loop.post(Started())
    await asyncio.wait_for(fired.wait(), PATIENCE)


async def test_a_core_that_raises_stops_the_loop_and_is_kept() -> None:
    error = AssertionError("books")
    core = Core(error)
    loop = ControlLoop(core, print)  # type: ignore[arg-type]  # a stand-in, or drawn fields
    loop.post(Started())
    loop.post(ShutdownRequested(1))
    await asyncio.sleep(0)
    assert loop.failed is error
    assert core.heard == [Started()]


async def test_whoever_subscribes_is_told_even_of_what_broke_the_core() -> None:
    told: list[Any] = []
    core = Core([Halt()], AssertionError("books"))
    loop = ControlLoop(core, lambda _: None)  # type: ignore[arg-type]  # a stand-in, or drawn fields
    loop.subscribe(lambda event, commands, now: told.append((event, list(commands), now > 0)))
    loop.post(Started())
    loop.post(TimerFired())
    await asyncio.sleep(0)
    assert told == [(Started(), [Halt()], True), (TimerFired(), [], True)]
    assert isinstance(loop.failed, AssertionError)


async def test_command_that_raises_fails_the_loop_and_whoever_asked_is_told_once() -> None:
    told: list[str] = []

    def execute(_: Any) -> None:
        raise KeyError("worker")

    loop = ControlLoop(Core([Halt()]), execute)  # type: ignore[arg-type]  # a stand-in, or drawn fields
    loop.when_failed(lambda: told.append("first"))
    loop.when_failed(lambda: told.append("second"))
    loop.post(Started())
    loop.fail("a task", ValueError())
    assert told == ["first", "second"]
    assert isinstance(loop.failed, KeyError), "the first error stays"


async def test_observer_that_raises_fails_the_loop_and_keeps_no_other_from_being_told() -> None:
    told: list[Any] = []

    def raises(*_: Any) -> None:
        raise ValueError

    loop = ControlLoop(Core(), print, [raises, lambda event, *_: told.append(event)])  # type: ignore[arg-type]  # a stand-in, or drawn fields
    loop.post(Started())
    loop.post(TimerFired())
    assert told == [Started()]
    assert isinstance(loop.failed, ValueError)


async def test_loop_that_failed_keeps_nothing_of_what_is_posted() -> None:
    core = Core(AssertionError("books"))
    loop = ControlLoop(core, print)  # type: ignore[arg-type]  # a stand-in, or drawn fields
    loop.post(Started())
    for _ in range(100):
        loop.post(TimerFired())
        loop.post_soon(TimerFired())
    await asyncio.sleep(0)
    assert core.heard == [Started()]
    assert not loop._events
