"""Runs batches on the engine: chunks out, one Finished for every request, cancelled or not."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from cohabit.protocol.engine import Chunk, Engine, EngineRequest, ItemError
from cohabit.protocol.messages import Finished
from cohabit.protocol.tasks import NEVER_STREAMED, Task
from cohabit.worker.child_process import report
from cohabit.worker.link import Link
from cohabit.worker.meter import Meter, lacked_memory
from cohabit.worker.threads import Threads

READ_EVERY = 0.002  # seconds between two readings of what memory is in use, while others run


@dataclass(slots=True)
class _Item:
    """What is known of one running request."""

    task: Task
    began: float
    cancelled: bool = False
    tokens: int = 0
    overrun: int = 0
    error: ItemError | None = None


class BatchExecutor:
    """Hands batches to the engine's threads and tells the control plane how each request ended."""

    def __init__(self, engine: Engine, link: Link, threads: Threads, meter: Meter) -> None:
        """``threads`` are as many as the engine may be called from at once."""
        self._meter = meter
        self.engine: Engine | None = engine
        """None while the model is not in."""
        self._link = link
        self._threads = threads
        self._items: dict[int, _Item] = {}
        self._lock = threading.Lock()
        self._sizes = (0, 0)  # peak and resident bytes, as last read
        self._read_next = 0.0
        self._steps = 0

    @property
    def steps(self) -> int:
        """Signs of progress so far: outputs, and times that an engine asked whether a request was cancelled.

        An engine that is held up by a reader does not hang, so that counts as one too.
        """
        self._steps += self._link.held_up > 0
        return self._steps

    def submit(self, batch: Sequence[EngineRequest]) -> None:
        """Queue a batch; returns at once."""
        assert self.engine is not None, "no work comes before Loaded"
        now = time.monotonic()
        with self._lock:
            if not self._items:
                self._meter.begin()  # a peak is of one stretch of work, since runs of one engine may overlap
                self._read_next = now
            for request in batch:
                self._items[request.id] = _Item(request.task, now)
        for request in batch:
            self._link.open(request.id)
        self._threads.submit(partial(self._run, self.engine, batch))

    def settle(self) -> None:
        """Until every run has left the engine: the last Finished is sent a moment before."""
        self._threads.settle()

    def cancel(self, request: int) -> None:
        """The client is gone. The engine hears of it at its next step."""
        item = self._items.get(request)
        if item is not None:
            item.cancelled = True
        self._link.drop(request)  # also wakes an engine that waits for this reader

    def _cancelled(self, request: int) -> bool:
        self._steps += 1  # two threads may count one step; that there was one is what matters
        item = self._items.get(request)
        return item is None or item.cancelled

    def _run(self, engine: Engine, batch: Sequence[EngineRequest]) -> None:
        open_items = {request.id: self._items[request.id] for request in batch}
        for item in open_items.values():
            item.began = time.monotonic()
        try:
            for output in engine.run(batch, self._cancelled):
                self._steps += 1
                item = open_items[output.id]
                if isinstance(output, ItemError):
                    item.error = output
                    self._finish(output.id, item)
                    del open_items[output.id]
                else:
                    self._emit(output, item)
        except Exception as error:
            if lacked_memory(error):
                self._fail(open_items, "out of memory", "out_of_memory", out_of_memory=True)
            else:
                report(error)
                self._fail(open_items, f"the engine failed with {type(error).__name__}", "engine_error")
        for request, item in open_items.items():
            self._finish(request, item)

    def _emit(self, chunk: Chunk, item: _Item) -> None:
        item.tokens += chunk.tokens
        if item.cancelled:
            item.overrun += chunk.tokens
        else:
            self._link.put(chunk, whole=item.task in NEVER_STREAMED)

    def _fail(self, items: dict[int, _Item], message: str, code: str, *, out_of_memory: bool = False) -> None:
        for request, item in items.items():
            item.error = ItemError(request, message, status=500, code=code, out_of_memory=out_of_memory)

    def _forget(self, request: int) -> tuple[int, int]:
        """It runs no more. What it took may be some moments old while others run: the last of a stretch tells all."""
        now = time.monotonic()
        with self._lock:  # a new stretch must not begin before this one's peak is read
            del self._items[request]
            if not self._items or now >= self._read_next:
                self._read_next = now + READ_EVERY
                self._read()
            if not self._items:
                self._meter.end()
            return self._sizes

    def _read(self) -> None:
        try:
            self._sizes = self._meter.read()
        except Exception as error:  # a driver's own, or no free file descriptor: what was read before stands
            report(error)

    def _finish(self, request: int, item: _Item) -> None:
        peak, idle = self._forget(request)
        self._link.finish(
            Finished(
                request,
                item.task,
                seconds=time.monotonic() - item.began,
                peak=peak,
                idle=idle,
                tokens=item.tokens,
                overrun=item.overrun,
                cancelled=item.cancelled,
                error=item.error,
            )
        )
