"""When the device is read."""

import asyncio
import threading
import time
from collections.abc import Mapping

import pytest

from cohabit.core.events import DeviceMeasured
from cohabit.devices.reading import Reading
from cohabit.runtime import sampler

SECONDS = 5.0


class Slow:
    """A device whose reading takes until the test lets it end."""

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)

    def total_bytes(self) -> int:
        """Nothing is there."""
        return 0

    def read(self, workers: Mapping[int, int]) -> Reading:
        """Nothing, late."""
        self.began.release()
        assert self.may_end.acquire(timeout=SECONDS)
        return Reading(0, 0, dict(workers))


async def test_what_ends_while_a_reading_is_taken_is_looked_for_in_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampler, "PERIOD", 60.0)
    device, readings = Slow(), asyncio.Queue[DeviceMeasured]()
    reads = sampler.Sampler(device, dict, readings.put_nowait)
    task = asyncio.create_task(reads.run())
    assert await asyncio.to_thread(device.began.acquire, timeout=SECONDS)
    reads.soon()
    ended = time.monotonic()
    device.may_end.release(2)
    first = await asyncio.wait_for(readings.get(), SECONDS)
    second = await asyncio.wait_for(readings.get(), SECONDS)
    assert first.at <= ended < second.at
    task.cancel()
    await asyncio.wait([task])


async def test_what_takes_long_to_read_is_not_read_all_the_time() -> None:
    device, readings = Slow(), asyncio.Queue[DeviceMeasured]()
    reads = sampler.Sampler(device, dict, readings.put_nowait)
    task = asyncio.create_task(reads.run())
    assert await asyncio.to_thread(device.began.acquire, timeout=SECONDS)
    await asyncio.sleep(0.1)  # so long it takes
    reads.soon()
    device.may_end.release(2)
    first = await asyncio.wait_for(readings.get(), SECONDS)
    second = await asyncio.wait_for(readings.get(), SECONDS)
    assert second.at - first.at >= (1 + sampler.REST) * 0.1
    task.cancel()
    await asyncio.wait([task])
