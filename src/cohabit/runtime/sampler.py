"""Reads the device: once a second, sooner while somebody waits for memory to be seen free."""

import asyncio
import time
from collections.abc import Callable, Mapping

from cohabit.core.events import DeviceMeasured
from cohabit.devices import Device
from cohabit.runtime.executors import DEVICE

PERIOD = 1.0  # seconds
SOONEST = 0.05  # between two readings; of five small workers one takes 11 ms
REST = 4  # times a reading at least: on cpu the kernel walks page tables, 4 GiB in 18 ms


class Sampler:
    """A task that posts DeviceMeasured; readings happen in a thread, since the kernel walks page tables."""

    def __init__(
        self, device: Device, pids: Callable[[], Mapping[int, int]], post: Callable[[DeviceMeasured], None]
    ) -> None:
        """``pids`` gives the process of every worker."""
        self._device = device
        self._pids = pids
        self._post = post
        self._soon = asyncio.Event()

    def soon(self) -> None:
        """Read as soon as allowed: something ended whose memory others may be waiting for."""
        self._soon.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            self._soon.clear()  # before the reading: what ends while it is taken may not show in it
            at = time.monotonic()
            reading = await DEVICE.run(self._device.read, dict(self._pids()))
            self._post(DeviceMeasured(at, reading.total, reading.available, reading.workers))
            rest = min(PERIOD, max(SOONEST, REST * (time.monotonic() - at)))
            await asyncio.sleep(rest)
            try:
                async with asyncio.timeout(PERIOD - rest):
                    await self._soon.wait()
            except TimeoutError:
                continue
