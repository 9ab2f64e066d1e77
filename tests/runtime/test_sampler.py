"""When the device is read."""

import asyncio
import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from cohabit.core.events import DeviceMeasured, DeviceUnreadable
from cohabit.devices import DeviceError, DeviceReading
from cohabit.runtime import sampler
from cohabit.runtime.supervision import TaskSupervisor
from harness import PATIENCE


class Slow:
    """A device whose reading takes until the test lets it end."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def total_bytes(self) -> int:
        """Nothing is there."""
        return 0

    def read(self, workers: Mapping[int, int]) -> DeviceReading:
        """Nothing, late."""
        self.began.release()
        assert self.may_end.acquire(timeout=PATIENCE)
        return DeviceReading(0, 0, dict(workers))


async def test_run_that_ends_during_a_reading_causes_another_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "PERIOD", 60.0)
    device, readings = Slow(), asyncio.Queue[Any]()
    reads = sampler.Sampler(device, dict, readings.put_nowait)
    task = asyncio.create_task(reads.run())
    assert await asyncio.to_thread(device.began.acquire, timeout=PATIENCE)
    reads.soon()
    ended = time.monotonic()
    device.may_end.release(2)
    first = await asyncio.wait_for(readings.get(), PATIENCE)
    second = await asyncio.wait_for(readings.get(), PATIENCE)
    assert first.at <= ended < second.at
    task.cancel()
    await asyncio.wait([task])


async def test_slow_readings_are_taken_less_often() -> None:
    device, readings = Slow(), asyncio.Queue[Any]()
    reads = sampler.Sampler(device, dict, readings.put_nowait)
    task = asyncio.create_task(reads.run())
    assert await asyncio.to_thread(device.began.acquire, timeout=PATIENCE)
    await asyncio.sleep(0.1)  # so long it takes
    reads.soon()
    device.may_end.release(2)
    first = await asyncio.wait_for(readings.get(), PATIENCE)
    second = await asyncio.wait_for(readings.get(), PATIENCE)
    assert second.at - first.at >= (1 + sampler.REST) * 0.1
    task.cancel()
    await asyncio.wait([task])


class Failing:
    """A device that cannot be read until the test says so."""

    def __init__(self) -> None:
        self.well = False

    def total_bytes(self) -> int:
        """Nothing is there."""
        return 0

    def read(self, workers: Mapping[int, int]) -> DeviceReading:
        """Nothing, or an error."""
        if not self.well:
            raise DeviceError("cuda:0 cannot be read: GPU is lost")
        return DeviceReading(0, 0, dict(workers))


def never(task: str, error: BaseException) -> None:
    raise AssertionError(task) from error


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device counts as unreadable after a moment."""
    monkeypatch.setattr(sampler, "PERIOD", 0.01)
    monkeypatch.setattr(sampler, "UNREADABLE_AFTER", 0.05)
    monkeypatch.setattr("cohabit.runtime.supervision.FIRST_PAUSE", 0.01)


@pytest.mark.usefixtures("impatient")
async def test_device_that_cannot_be_read_is_told_once_and_read_again() -> None:
    device, said = Failing(), asyncio.Queue[Any]()
    reads = sampler.Sampler(device, dict, said.put_nowait)
    tasks = TaskSupervisor(never)
    running = [tasks.keep("sampler", reads.run), tasks.keep("sampler watch", reads.watch)]
    for _ in range(2):
        device.well = False
        event = await asyncio.wait_for(said.get(), PATIENCE)
        while isinstance(event, DeviceMeasured):
            event = await asyncio.wait_for(said.get(), PATIENCE)
        assert event == DeviceUnreadable("cuda:0 cannot be read: GPU is lost")
        await asyncio.sleep(0.1)
        assert said.empty(), "once"
        device.well = True
        assert isinstance(await asyncio.wait_for(said.get(), PATIENCE), DeviceMeasured)
        while reads._told:  # noqa: ASYNC110 - until the watch sees it too, which has no event for it
            await asyncio.sleep(0.01)
    assert tasks.restarts["sampler"] > 1
    for task in running:
        task.cancel()
    await asyncio.wait(running)


@pytest.mark.usefixtures("impatient")
async def test_reading_that_does_not_end_is_told_too() -> None:
    device, said = Slow(), asyncio.Queue[Any]()
    reads = sampler.Sampler(device, dict, said.put_nowait)
    running = [asyncio.create_task(reads.run()), asyncio.create_task(reads.watch())]
    assert await asyncio.wait_for(said.get(), PATIENCE) == DeviceUnreadable("a reading has not ended within 0.05 s")
    device.may_end.release(1000)
    assert isinstance(await asyncio.wait_for(said.get(), PATIENCE), DeviceMeasured)
    for task in running:
        task.cancel()
    await asyncio.wait(running)


class Held:
    """A device on which every process that is asked for holds 100 bytes."""

    def total_bytes(self) -> int:
        """All of it."""
        return 1000

    def read(self, workers: Mapping[int, int]) -> DeviceReading:
        """What is left of it is available."""
        return DeviceReading(1000, 1000 - 100 * len(workers), dict.fromkeys(workers, 100))


@pytest.mark.parametrize(("booked", "available"), [(0, 700), (150, 850), (500, 900)])
async def test_processes_beside_the_workers_are_no_strangers_as_far_as_they_are_booked(
    booked: int, available: int
) -> None:
    readings = asyncio.Queue[Any]()
    beside = sampler.Beside(lambda: [11, 12], booked)
    task = asyncio.create_task(sampler.Sampler(Held(), lambda: {7: 10}, readings.put_nowait, beside).run())
    reading = await asyncio.wait_for(readings.get(), PATIENCE)
    assert (reading.workers, reading.available) == ({7: 100}, available)
    task.cancel()
    await asyncio.wait([task])
