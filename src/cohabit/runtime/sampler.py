"""Reads the device: once a second, sooner while somebody waits for memory to be seen free.

Also notices that it is not read any more, because readings fail or one of them does not end.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from cohabit.core.events import DeviceMeasured, DeviceUnreadable
from cohabit.devices import DeviceError, DeviceReader, DeviceReading
from cohabit.runtime.executors import DEVICE

PERIOD = 1.0  # seconds
UNREADABLE_AFTER = 10.0  # seconds without a reading
SOONEST = 0.05  # between two readings; of five small workers one takes 11 ms
REST = 4  # times a reading at least: on cpu the kernel walks page tables, 4 GiB in 18 ms

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Beside:
    """Processes that are no workers and have memory kept for them: they are no strangers."""

    pids: Callable[[], Sequence[int]]
    booked: int  # bytes for all of them


NOBODY = Beside(tuple, 0)


class Sampler:
    """Two tasks: one posts readings, taken in a thread since they block; the other posts their absence."""

    def __init__(
        self,
        device: DeviceReader,
        pids: Callable[[], Mapping[int, int]],
        post: Callable[[DeviceMeasured | DeviceUnreadable], None],
        beside: Beside = NOBODY,
    ) -> None:
        """``pids`` gives the process of every worker."""
        self._device = device
        self._pids = pids
        self._post = post
        self._beside = beside
        self._soon = asyncio.Event()
        self._read_at = time.monotonic()
        self._failure = ""  # why the last reading failed; empty if it did not
        self._told = False

    def soon(self) -> None:
        """Read as soon as allowed: something ended whose memory others may be waiting for."""
        self._soon.set()

    async def run(self) -> None:
        """For ever. Raises DeviceError; to be started again."""
        while True:
            self._soon.clear()  # before the reading: what ends while it is taken may not show in it
            at = time.monotonic()
            await self._read(at)
            rest = min(PERIOD, max(SOONEST, REST * (time.monotonic() - at)))
            await asyncio.sleep(rest)
            try:
                async with asyncio.timeout(PERIOD - rest):
                    await self._soon.wait()
            except TimeoutError:
                continue

    async def watch(self) -> None:
        """For ever: say so if there was no reading for too long, once until there is one again."""
        while True:
            overdue = time.monotonic() - self._read_at >= UNREADABLE_AFTER
            if overdue and not self._told:
                why = self._failure or f"a reading has not ended within {UNREADABLE_AFTER:g} s"
                log.error("device cannot be read; no model is loaded", why=why)
                self._post(DeviceUnreadable(why))
            elif self._told and not overdue:
                log.warning("device can be read again")
            self._told = overdue
            await asyncio.sleep(PERIOD)

    async def _read(self, at: float) -> None:
        try:
            reading = await DEVICE.run(self._looked, dict(self._pids()), self._beside.pids())
        except Exception as error:
            self._failure = str(error) if isinstance(error, DeviceError) else type(error).__name__
            raise
        self._post(DeviceMeasured(at, reading.total, reading.available, reading.workers))
        self._read_at, self._failure = time.monotonic(), ""

    def _looked(self, workers: Mapping[int, int], beside: Sequence[int]) -> DeviceReading:
        """What the processes beside the workers hold shows as available, as far as it is booked for them."""
        others = {-number: pid for number, pid in enumerate(beside, start=1)}
        reading = self._device.read({**workers, **others})
        held = sum(reading.workers.pop(other, 0) for other in others)
        return replace(reading, available=reading.available + min(held, self._beside.booked))
