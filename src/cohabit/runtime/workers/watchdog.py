"""Finds workers that have frozen: they answer no ping and use no processor time.

Processor time counts as progress, since loading can hold Python's lock for minutes. An engine that hangs while
its process still answers is the business of ``max_run``.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from cohabit.protocol.messages import Ping
from cohabit.runtime.workers.process import WorkerProcess

log = structlog.get_logger()

PERIOD = 5.0  # seconds between pings
SILENCE = 60.0  # seconds without an answer and without processor time


@dataclass(slots=True)
class _Seen:
    """The last sign of life of one worker."""

    at: float
    heard: int
    cpu_seconds: float


class Watchdog:
    """Pings every worker and kills those that are frozen; their exit is then handled like any death."""

    def __init__(
        self,
        processes: Callable[[], Mapping[int, WorkerProcess]],
        *,
        period: float = PERIOD,
        silence: float = SILENCE,
    ) -> None:
        """``processes`` gives the process of every worker by its id."""
        self._processes = processes
        self._period = period
        self._silence = silence
        self._seen: dict[int, _Seen] = {}

    async def run(self) -> None:
        """For ever."""
        while True:
            self.look(time.monotonic())
            await asyncio.sleep(self._period)

    def look(self, now: float) -> None:
        """One round: note signs of life, ping, kill who has given none for too long."""
        processes = self._processes()
        self._seen = {worker: seen for worker, seen in self._seen.items() if worker in processes}
        for worker, process in processes.items():
            cpu_seconds = process.cpu_seconds()
            seen = self._seen.get(worker)
            if seen is None or process.heard > seen.heard or cpu_seconds > seen.cpu_seconds:
                self._seen[worker] = _Seen(now, process.heard, cpu_seconds)
            elif now - seen.at >= self._silence:
                log.warning("worker is frozen and is killed", model=process.model, pid=process.pid)
                process.kill()
            process.send(Ping())
