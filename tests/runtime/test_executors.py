"""Work that blocks waits only behind work of its own kind."""

import ast
import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cohabit.devices import DeviceReading
from cohabit.runtime.executors import PARSING, Executor, close_all
from cohabit.runtime.sampler import Sampler

SOURCES = sorted((Path(__file__).parents[2] / "src").rglob("*.py"))


class Door:
    """Work that ends when the test lets it."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.opened = threading.Event()
        self.count = 0

    def pass_through(self) -> str:
        self.count += 1
        self.begun.release()
        assert self.opened.wait(30)
        return "through"


@pytest.fixture
def door() -> Iterator[Door]:
    found = Door()
    yield found
    found.opened.set()
    close_all()


class Idle:
    """A device that can always be read at once."""

    def total_bytes(self) -> int:
        return 1

    def read(self, workers: object) -> DeviceReading:
        assert not workers
        return DeviceReading(total=1, available=1, workers={})


async def test_the_device_is_read_while_what_strangers_sent_takes_every_thread_it_may(door: Door) -> None:
    held = [asyncio.ensure_future(PARSING.run(door.pass_through)) for _ in range(50)]
    await asyncio.sleep(0)
    door.begun.acquire()
    readings: asyncio.Queue[Any] = asyncio.Queue()
    sampler = asyncio.ensure_future(Sampler(Idle(), dict, readings.put_nowait).run())
    assert (await readings.get()).total == 1
    assert not any(each.done() for each in held)
    sampler.cancel()
    door.opened.set()
    assert await asyncio.gather(*held) == ["through"] * 50


async def test_no_more_runs_at_once_than_was_said(door: Door) -> None:
    executor = Executor("test", 2)
    held = [asyncio.ensure_future(executor.run(door.pass_through)) for _ in range(5)]
    await asyncio.sleep(0)
    door.begun.acquire()
    door.begun.acquire()
    assert not door.begun.acquire(timeout=0.05)
    door.opened.set()
    await asyncio.gather(*held)
    executor.close()


async def test_piece_that_waits_is_dropped_when_its_client_leaves(door: Door) -> None:
    executor = Executor("test", 1)
    first = asyncio.ensure_future(executor.run(door.pass_through))
    second = asyncio.ensure_future(executor.run(door.pass_through))
    await asyncio.sleep(0)
    door.begun.acquire()
    second.cancel()
    await asyncio.sleep(0)
    door.opened.set()
    await first
    await executor.run(lambda: None)
    assert door.count == 1
    executor.close()


async def test_closed_executor_can_be_used_again() -> None:
    executor = Executor("test", 1)
    assert await executor.run(int, "1") == 1
    executor.close()
    assert await executor.run(int, "2") == 2
    executor.close()


async def test_an_error_reaches_whoever_asked() -> None:
    executor = Executor("test", 1)
    with pytest.raises(ValueError, match="invalid literal"):
        await executor.run(int, "x")
    executor.close()


def test_nothing_uses_the_default_executor() -> None:
    calls = {"to_thread", "run_in_executor", "set_default_executor", "run_in_threadpool"}
    users = {
        f"{path.name}: {node.attr}"
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in calls
    }
    assert users == {"executors.py: run_in_executor"}
