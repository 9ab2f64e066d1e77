"""The control loop hands events over in order, keeps the one timer, and stops at a core that contradicts itself."""

import asyncio
import time
from typing import Any

from cohabit.core.commands import Halt, SetTimer
from cohabit.core.events import ShutdownRequested, Started, TimerFired
from cohabit.runtime.control_loop import ControlLoop
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


async def test_commands_of_an_event_are_executed_before_the_next_event() -> None:
    said: list[Any] = []
    core = Core([Halt()], [])
    loop = ControlLoop(core, lambda command: said.append((command, len(core.heard))))  # type: ignore[arg-type]  # a stand-in, or drawn fields
    loop.post(Started())
    assert core.heard == [Started()], "an event is taken where it is posted"
    loop.post(TimerFired())
    assert core.heard == [Started(), TimerFired()]
    assert said == [(Halt(), 1)]


async def test_event_posted_by_a_command_is_taken_after_all_commands() -> None:
    said: list[Any] = []
    core = Core([Halt(), SetTimer(None), Halt()])

    def execute(_command: Any) -> None:
        loop.post(TimerFired())
        said.append(len(core.heard))

    loop = ControlLoop(core, execute)  # type: ignore[arg-type]  # a stand-in, or drawn fields
    loop.post(Started())
    assert said == [1, 1]
    assert core.heard == [Started(), TimerFired(), TimerFired()]


async def test_timer_posts_an_event_unless_it_was_cancelled() -> None:
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


async def test_postponed_timer_does_not_fire_early() -> None:
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


async def test_advanced_timer_fires_early() -> None:
    fired = asyncio.Event()
    core = Core([SetTimer(time.monotonic() + 60)], [SetTimer(time.monotonic())])
    loop = ControlLoop(core, print, [lambda event, *_: fired.set() if event == TimerFired() else None])  # type: ignore[arg-type]  # a stand-in, or drawn fields
    loop.post(Started())
    loop.post(Started())
    await asyncio.wait_for(fired.wait(), PATIENCE)


async def test_error_of_the_core_stops_the_loop_and_is_kept() -> None:
    error = AssertionError("books")
    core = Core(error)
    loop = ControlLoop(core, print)  # type: ignore[arg-type]  # a stand-in, or drawn fields
    loop.post(Started())
    loop.post(ShutdownRequested(1))
    await asyncio.sleep(0)
    assert loop.failed is error
    assert core.heard == [Started()]


async def test_observer_sees_the_event_on_which_the_core_failed() -> None:
    told: list[Any] = []
    core = Core([Halt()], AssertionError("books"))
    loop = ControlLoop(core, lambda _: None)  # type: ignore[arg-type]  # a stand-in, or drawn fields
    loop.subscribe(lambda event, commands, now: told.append((event, list(commands), now > 0)))
    loop.post(Started())
    loop.post(TimerFired())
    await asyncio.sleep(0)
    assert told == [(Started(), [Halt()], True), (TimerFired(), [], True)]
    assert isinstance(loop.failed, AssertionError)


async def test_command_that_raises_fails_the_loop_and_callbacks_run_once() -> None:
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


async def test_observer_that_raises_fails_the_loop_and_the_others_still_run() -> None:
    told: list[Any] = []

    def raises(*_: Any) -> None:
        raise ValueError

    loop = ControlLoop(Core(), print, [raises, lambda event, *_: told.append(event)])  # type: ignore[arg-type]  # a stand-in, or drawn fields
    loop.post(Started())
    loop.post(TimerFired())
    assert told == [Started()]
    assert isinstance(loop.failed, ValueError)


async def test_failed_loop_drops_what_is_posted() -> None:
    core = Core(AssertionError("books"))
    loop = ControlLoop(core, print)  # type: ignore[arg-type]  # a stand-in, or drawn fields
    loop.post(Started())
    for _ in range(100):
        loop.post(TimerFired())
    await asyncio.sleep(0)
    assert core.heard == [Started()]
    assert not loop._events
