"""Finds out when nothing goes on although somebody waits: in one worker, or in all of the server.

Signs of progress are what a worker sends of an answer, the steps of its engine (``Pong.steps``), and the end of a
run. A worker whose runs give none for ``max_stall`` is ended: the engine hangs, or does what it
was asked for without end. The server counts as stalled when nobody has given any for ``after`` seconds, something
waits, and no worker is at something that has a time limit of its own, such as a load.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cohabit.protocol.messages import Ping
from cohabit.runtime.inflight import InFlightRequests
from cohabit.runtime.workers.handle import WorkerHandle

PERIOD = 2.0  # seconds between two looks at most
LOOKS = 4  # within the shortest time that is looked for, at least


@dataclass(slots=True)
class _Seen:
    """The last sign of progress of one worker."""

    at: float
    signs: int


class StallDetector:
    """A task that looks at all workers again and again."""

    def __init__(
        self,
        workers: Mapping[int, WorkerHandle],
        inflight: InFlightRequests,
        *,
        after: float,
        max_stall: Mapping[str, float],
        end: Callable[[int, float, int | None], None],
    ) -> None:
        """``max_stall`` in seconds, by model.

        ``end(worker, seconds, request)`` ends a worker without progress for so long, and blames a request, if any.
        """
        self._workers = workers
        self._inflight = inflight
        self._after = after
        self._max_stall = max_stall
        self._end = end
        self._period = min(PERIOD, min([after, *max_stall.values()]) / LOOKS)
        self._seen: dict[int, _Seen] = {}
        self._ended = 0  # requests, when it was last looked
        self._progress_at = self._looked_at = time.monotonic()

    async def run(self) -> None:
        """For ever."""
        while True:
            self.look(time.monotonic())
            await asyncio.sleep(self._period)

    def look(self, now: float) -> None:
        """One round: note signs of progress, end the workers that have given none for too long."""
        if now - self._looked_at > 3 * self._period:  # we were stopped ourselves, and have seen nothing meanwhile
            self._seen = {worker: _Seen(now, seen.signs) for worker, seen in self._seen.items()}
            self._progress_at = now
        self._looked_at = now
        if self._inflight.ended != self._ended:
            self._progress_at = now
        self._ended = self._inflight.ended
        runs = self._newest_runs()
        self._seen = {worker: seen for worker, seen in self._seen.items() if worker in runs}
        for worker_id, (given_at, requests) in runs.items():
            self._look_at(worker_id, given_at, requests, now)
        if not self._waits() or any(worker.is_within_a_limit() for worker in self._workers.values()):
            self._progress_at = now

    def stalled(self, now: float) -> bool:
        """Whether somebody waits, and nothing has gone on for too long."""
        return now - self._progress_at >= self._after and self._waits()

    def _waits(self) -> bool:
        return any(stream.finished is None for stream in self._inflight.streams.values())

    def _look_at(self, worker_id: int, given_at: float, requests: list[int], now: float) -> None:
        worker, seen = self._workers[worker_id], self._seen.get(worker_id)
        if seen is None:
            seen = self._seen[worker_id] = _Seen(given_at, worker.signs)
            self._progress_at = max(self._progress_at, given_at)
        if worker.signs != seen.signs:
            self._seen[worker_id] = _Seen(now, worker.signs)
            self._progress_at = now
        elif now - max(seen.at, given_at) >= self._max_stall[worker.model] and worker.failed is None:
            blamed = requests[0] if len(requests) == 1 else None
            self._end(worker_id, self._max_stall[worker.model], blamed)
        worker.send(Ping())  # its answer tells of steps, by the next look

    def _newest_runs(self) -> dict[int, tuple[float, list[int]]]:
        """By worker that runs anything, what it was given last, and when: several requests if they were one batch."""
        newest: dict[int, tuple[float, list[int]]] = {}
        for request, stream in self._inflight.streams.items():
            at = stream.dispatched
            if stream.worker is None or at is None or stream.finished is not None:
                continue
            worker = stream.worker.id
            if worker not in newest or at > newest[worker][0]:
                newest[worker] = (at, [])
            if at == newest[worker][0]:
                newest[worker][1].append(request)
        return newest
