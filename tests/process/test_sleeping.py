"""Sleeping, waking and trimming for real: a process that stays, memory that goes and comes back."""

import json

import psutil
import pytest

from cohabit.core.commands import SleepWorker, StartWorker, StopCause, StopWorker, TrimWorker, WakeWorker
from cohabit.core.events import RequestCancelled, Slept, Trimmed, WorkerExited
from cohabit.protocol import messages
from cohabit.protocol.tasks import Task
from cohabit.runtime.requests import ModelRequest
from cohabit.runtime.workers import time_limits
from process.worker_driver import Driver, driving, fake

pytestmark = pytest.mark.process

MIB = 1 << 20
SLEEP = SleepWorker("m", 1, StopCause.EVICTED, "for a test")
WAKE = WakeWorker("m", 1)
STOP = StopWorker("m", 1, StopCause.SHUTDOWN, "for a test")


def chat(**fields: object) -> ModelRequest:
    """One chat."""
    body = {"messages": [{"role": "user", "content": "x"}], **fields}
    return ModelRequest(model="m", task=Task.CHAT, body=json.dumps(body).encode(), client="test")


def idle(driver: Driver) -> int:
    """Of the worker's process, from outside."""
    process = driver.supervisor.processes()[1]
    return int(psutil.Process(process.pid).memory_info().rss)


async def test_it_sleeps_wakes_and_serves_in_the_same_process() -> None:
    options = {"idle": 80 * MIB, "sleep_resident": 10 * MIB, "load_seconds": 0.2, "wake_seconds": 0.1}
    async with driving(fake(**options)) as driver:
        ready = await driver.started()
        assert ready.seconds >= 0.2
        pid = driver.supervisor.processes()[1].pid
        assert await driver.ask(chat())
        slept = await driver.slept()
        assert 60 * MIB < ready.idle - slept.held < 80 * MIB
        assert abs(idle(driver) - slept.held) < 4 * MIB, "seen from outside too"
        woken = await driver.woken()
        assert woken.seconds >= 0.1, "counted from the word"
        assert abs(woken.idle - ready.idle) < 4 * MIB
        assert woken.load_peak >= woken.idle
        assert await driver.ask(chat())
        assert driver.supervisor.processes()[1].pid == pid
        exited = await driver.stopped()
        assert exited.seconds > 0


async def test_the_wait_for_a_wake_is_told_as_one_for_a_load() -> None:
    async with driving(fake(wake_seconds=0.2)) as driver:
        await driver.started()
        await driver.slept()
        answer = driver.arrived(chat())
        await driver.woken()
        await driver.ran(answer)
        assert answer.load_seconds >= 0.2
        later = driver.arrived(chat())
        await driver.ran(later)
        assert later.load_seconds == 0.0


async def test_a_trim_ends_in_an_event_and_gives_back_what_was_freed() -> None:
    async with driving(fake()) as driver:
        await driver.started()
        before = idle(driver)
        # pieces too small to be mapped one by one: freed, they stay on the heap
        await driver.ask(chat(padding=["x" * 1000] * 40_000))
        assert idle(driver) - before > 8 * MIB
        assert (await driver.done(TrimWorker("m", 1, "for a test"), Trimmed)).worker == 1
        assert idle(driver) - before < 2 * MIB
        assert await driver.ask(chat())


async def test_what_a_slow_reader_has_not_taken_survives_the_sleep() -> None:
    async with driving(fake(tokens=300)) as driver:
        await driver.started()
        answer = driver.arrived(chat(stream=True))
        await driver.ran(answer)
        await driver.slept()
        chunks = [chunk async for chunk in answer]
        assert len(chunks) == 301, "far more than its credit of 64"


async def test_client_may_leave_while_the_model_sleeps() -> None:
    async with driving(fake(tokens=300)) as driver:
        await driver.started()
        answer = driver.arrived(chat(stream=True))
        await driver.ran(answer)
        await driver.slept()
        driver.inflight.on_client_left(answer.id)
        await driver.next(RequestCancelled)
        await driver.woken()
        assert await driver.ask(chat())


@pytest.mark.parametrize(
    ("fail", "detail", "out_of_memory"),
    [
        ("sleep", "RuntimeError while falling asleep", False),
        ("wake", "out of memory while waking", True),
    ],
)
async def test_one_that_fails_is_killed_and_says_why(fail: str, detail: str, out_of_memory: bool) -> None:
    async with driving(fake(fail=fail)) as driver:
        await driver.started()
        if fail == "wake":
            await driver.slept()
        exited = await driver.done(SLEEP if fail == "sleep" else WAKE, WorkerExited)
        assert (exited.detail, exited.out_of_memory, exited.permanent) == (detail, out_of_memory, False)
        assert exited.seconds == 0, "nobody told it to stop"


@pytest.mark.parametrize("phase", ["LOAD", "SLEEP", "WAKE"])
async def test_one_that_takes_too_long_is_killed(phase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = getattr(time_limits, phase)
    monkeypatch.setattr(time_limits, phase, limit._replace(seconds=0.3))
    async with driving(fake(**{f"{phase.lower()}_seconds": 60, "wake_seconds": 60})) as driver:
        if phase == "LOAD":
            driver.effects.execute(StartWorker("m", 1))
        else:
            await driver.started()
            driver.effects.execute(SLEEP)
        if phase == "WAKE":
            await driver.next(Slept)
            driver.effects.execute(WAKE)
        assert (await driver.next(WorkerExited)).detail == f"it did not {limit.doing} within 0.3 s"


@pytest.mark.parametrize("doing", ["sleep", "wake"])
async def test_a_stop_in_the_middle_does_not_wait_for_the_end(doing: str) -> None:
    async with driving(fake(tokens=300, **{f"{doing}_seconds": 60})) as driver:
        await driver.started()
        answer = driver.arrived(chat(stream=True))
        await driver.ran(answer)
        if doing == "wake":
            await driver.slept()
        driver.effects.execute(SLEEP if doing == "sleep" else WAKE)
        exited = await driver.done(STOP, WorkerExited)
        assert exited.detail == "its worker ended with exit code 0"
        assert len([chunk async for chunk in answer]) == 301, "it still hands over what waits"


async def test_one_that_says_nothing_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time_limits, "FIRST_WORD", time_limits.FIRST_WORD._replace(seconds=0.0))
    async with driving(fake()) as driver:
        exited = await driver.done(StartWorker("m", 1), WorkerExited)
        assert exited.detail == "it did not say anything within 0 s"


async def test_one_of_another_version_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    spoken = messages.PROTOCOL_VERSION
    monkeypatch.setattr(messages, "PROTOCOL_VERSION", 99)
    async with driving(fake()) as driver:
        exited = await driver.done(StartWorker("m", 1), WorkerExited)
        assert exited.detail == f"its worker speaks version {spoken} of the protocol, not 99"
        assert exited.permanent
