"""One batch, from its first line to its files.

Each model has a lane of its own, in which its lines are asked in the order of the input and so many at once that it
can fill its own batches; the core decides which lane gets the device. What has been answered is written down in
groups: the first that is done writes, and while it does the next group gathers.
"""

import asyncio

import structlog

from cohabit.batches import line_store, records
from cohabit.batches.errors import StorageError
from cohabit.batches.line_store import BatchLine, LineResult
from cohabit.batches.records import PendingWork
from cohabit.batches.retry import RetryPolicy
from cohabit.batches.run_context import AT_ONCE, Halted, RunContext
from cohabit.batches.validation import InputValidation
from cohabit.runtime.supervision import awaited
from cohabit.schemas.batches import ENDED

log = structlog.get_logger()

MAX_BYTES = 8 << 20  # of the lines that are fetched at once
LAST = 0.1  # of its time: then its lines no longer give way to everything else
_LOOK = 5.0  # seconds between two looks at whether it has expired
_MEASURED = 20  # answers after which it is known how fast it goes

GONE = ("key_revoked", "the key that made this batch has been revoked")
WHY = {
    "cancelled": ("batch_cancelled", "the batch was cancelled before this line was answered"),
    "expired": ("batch_expired", "the batch expired before this line was answered"),
}


class BatchRun:
    """Brings one batch to its end, or as far as it gets until the server stops."""

    def __init__(self, batch: PendingWork, context: RunContext) -> None:
        self._batch = batch
        self._context = context
        self._cancelled = asyncio.Event()
        self._pending: list[LineResult] = []
        self._writing = asyncio.Lock()
        self._began = self._context.calendar.monotonic()
        self._done = 0  # since then

    def cancel(self) -> None:
        """It has been cancelled."""
        self._cancelled.set()

    async def run(self) -> None:
        """Until it is at its end, or the server stops."""
        try:
            await self._run()
        except* Halted:
            log.debug("batch goes on when the server is back", batch=self._batch.id)

    async def _run(self) -> None:
        context, name = self._context, self._batch.id
        if self._batch.status == "validating":
            await self._take_in()
        found = await context.read(records.one, name)
        if found is None or found.status in ENDED:
            return
        self._batch = found
        if found.status == "cancelling":
            self._cancelled.set()
        status = await self._answer()
        if status in WHY:
            while await context.write(line_store.give_up, name, *WHY[status]):
                context.go_on()
        await context.write(records.finish, name, status, context.calendar.now())
        log.info("batch has ended", batch=name, status=status)

    async def _take_in(self) -> None:
        """From the file to lines."""
        context, ended = self._context, False
        while not ended and not self._cancelled.is_set():
            intake = InputValidation(self._batch.id, self._batch.input_file_id, context.resolve, context.most_lines)
            try:
                while not ended and not self._cancelled.is_set():
                    context.go_on()
                    ended = await context.database.write(intake.step, context.calendar.now())
            except StorageError:
                await context.pause(1.0)

    async def _answer(self) -> str:
        """The status in which it ends."""
        lanes = awaited(self._lanes())
        cancelled = awaited(self._cancelled.wait())
        try:
            while not lanes.done() and not cancelled.done() and (left := self._left()) > 0:
                within = min(left, _LOOK)
                await asyncio.wait({lanes, cancelled}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
            if lanes.done():
                lanes.result()
                return "completed"
            return "cancelled" if cancelled.done() else "expired"
        finally:
            lanes.cancel()
            cancelled.cancel()
            await asyncio.wait({lanes, cancelled})

    async def _lanes(self) -> None:
        while models := await self._context.read(line_store.models, self._batch.id):
            async with asyncio.TaskGroup() as group:
                for model in models:
                    group.create_task(self._lane(model))
            self._context.go_on()

    async def _lane(self, model: str) -> None:
        room = self._context.room(model)
        after = 0
        async with asyncio.TaskGroup() as group:
            while page := await self._context.read(
                line_store.waiting, self._batch.id, model, after, most=AT_ONCE, most_bytes=MAX_BYTES
            ):
                for line in page:
                    await room.acquire()
                    if self._context.halted:
                        room.release()
                        return
                    group.create_task(self._line(line, room))
                after = page[-1].number

    async def _line(self, line: BatchLine, room: asyncio.Semaphore) -> None:
        try:
            outcome = await self._outcome(line)
            if outcome is not None:
                await self._record(outcome)
        finally:
            room.release()

    async def _outcome(self, line: BatchLine) -> LineResult | None:
        """None where it is to stay as it is."""
        verdicts = RetryPolicy()
        batch, context = self._batch, self._context
        while not context.halted:
            state = context.identify(batch.owner)
            if state is None:
                return line_store.failed(batch.id, line.number, line.custom_id, *GONE)
            response = await context.calls.post(
                line.url,
                line.body,
                client=batch.id,
                seconds=self._left(),
                state={**state, "background": not self._urgent()},
            )
            pause = verdicts.pause(response)
            if pause is None:
                return line_store.answered(batch.id, line.number, line.custom_id, response)
            await context.pause(pause)
        return None

    def _left(self) -> float:
        """Seconds until it expires."""
        return self._context.calendar.left(self._batch.expires_at, self._batch.created_at)

    def _urgent(self) -> bool:
        """Whether it would not be done in time if it went on giving way."""
        left = self._left()
        if left < LAST * (self._batch.expires_at - self._batch.created_at):
            return True
        if self._done < _MEASURED:
            return False
        each = (self._context.calendar.monotonic() - self._began) / self._done
        return left < each * (self._batch.total - self._batch.done - self._done)

    async def _record(self, outcome: LineResult) -> None:
        self._pending.append(outcome)
        async with self._writing:
            if not self._pending:
                return  # whoever wrote before us took ours along
            group, self._pending = self._pending, []
            await self._context.write(line_store.record, self._batch.id, group)
            self._done += len(group)
