"""Which batches are run, and when what is kept is erased."""

import asyncio
import math

import structlog

from cohabit.batches import files, records
from cohabit.batches.errors import StorageError
from cohabit.batches.leader import Leader
from cohabit.batches.run import BatchRun
from cohabit.batches.run_context import RunContext
from cohabit.observability.logs import log_bug
from cohabit.runtime.supervision import awaited

log = structlog.get_logger()

MAX_RUNNING = 8  # batches at once; the others wait, the oldest first
_POLL = 5.0  # seconds; another server may have taken or cancelled a batch
_SWEEP = 3600.0  # seconds
_DAY = 86400.0


class BatchRunner:
    """Runs the batches of a database, as long as it is the one server that does."""

    def __init__(self, context: RunContext, leader: Leader) -> None:
        """Nothing happens before ``run``."""
        self._context = context
        self._leader = leader
        self._runs: dict[str, tuple[BatchRun, asyncio.Task[None]]] = {}
        self._news = asyncio.Event()
        self._began = context.calendar.now()
        self._sweep_at = self._swept_until = -math.inf

    def poke(self) -> None:
        """There is something new; look now."""
        self._news.set()

    def halt(self) -> None:
        """Begin nothing new. What was begun still ends while the models do."""
        self._context.halt()
        self.poke()

    async def run(self) -> None:
        """Until it is halted and what was begun has ended."""
        while not self._context.halted:
            try:
                if await self._leader.leads():
                    await self._look()
                    await self._sweep()
            except StorageError:
                log.debug("batches wait for their database")  # which has told why
            try:
                async with asyncio.timeout(_POLL):
                    await self._news.wait()
            except TimeoutError:
                continue
            self._news.clear()
        await asyncio.gather(*(task for _, task in self._runs.values()))
        self._leader.resign()

    async def _look(self) -> None:
        found = await self._context.database.read(records.unfinished)
        calendar = self._context.calendar
        for batch in found:
            over = batch.status == "cancelling" or calendar.left(batch.expires_at, batch.created_at) <= 0
            if batch.id in self._runs:
                if batch.status == "cancelling":
                    self._runs[batch.id][0].cancel()
            elif over or len(self._runs) < MAX_RUNNING:
                run = BatchRun(batch, self._context)
                self._runs[batch.id] = run, awaited(self._carried(batch.id, run))

    async def _carried(self, batch_id: str, run: BatchRun) -> None:
        try:
            await run.run()
        except Exception as error:
            log_bug(error, batch=batch_id)  # the next look tries again
            await self._context.pause(_POLL)
        finally:
            del self._runs[batch_id]
            self.poke()  # there is room for another

    async def _sweep(self) -> None:
        """At the start, when it is first known what has expired, and every hour from then on."""
        calendar, database = self._context.calendar, self._context.database
        now = calendar.surely()
        settles = math.isinf(self._swept_until) and math.isfinite(now)
        if calendar.monotonic() < self._sweep_at and not settles:
            return
        first = math.isinf(self._sweep_at)
        self._sweep_at = calendar.monotonic() + _SWEEP
        self._swept_until = now
        if math.isfinite(now):
            await database.write(records.expire, now)
            await database.write(files.expire, now)
            await database.write(files.abandon, now - _DAY)
        if first and database.path is not None:
            # What was being sent when a server died: with a database of its own all that was before this one began.
            await database.write(files.abandon, self._began)
        await database.erase()
