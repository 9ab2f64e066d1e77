"""A worker that has frozen is found and killed; one that only works hard is not."""

import asyncio
import os
import signal

import pytest

from cohabit.protocol.messages import FromWorker, Hello, Pong
from cohabit.runtime.workers.process import WorkerProcess
from cohabit.runtime.workers.watchdog import Watchdog
from harness import PATIENCE

pytestmark = pytest.mark.process


async def spawned() -> tuple[WorkerProcess, asyncio.Queue[FromWorker]]:
    """A worker that has said hello, and what else it says."""
    said: asyncio.Queue[FromWorker] = asyncio.Queue()
    process = await WorkerProcess.spawn("m", 1, said.put_nowait)
    assert isinstance(await asyncio.wait_for(said.get(), PATIENCE), Hello)
    return process, said


async def test_a_frozen_worker_is_killed() -> None:
    process, said = await spawned()
    watchdog = Watchdog(lambda: {1: process}, silence=10)
    watchdog.look(0)
    await asyncio.wait_for(said.get(), PATIENCE)
    os.kill(process.pid, signal.SIGSTOP)
    watchdog.look(5)
    watchdog.look(14)
    assert process.log_tail == []
    watchdog.look(15.1)
    assert "SIGKILL" in await asyncio.wait_for(process.exited(), PATIENCE)
    watchdog.look(16)


async def test_a_worker_that_answers_is_left_alone() -> None:
    process, said = await spawned()
    watchdog = Watchdog(lambda: {1: process}, silence=10)
    for now in (0, 9, 18, 27):
        watchdog.look(now)
        assert isinstance(await asyncio.wait_for(said.get(), PATIENCE), Pong)
    await process.stop()
    assert "exit code 0" in await asyncio.wait_for(process.exited(), PATIENCE)
