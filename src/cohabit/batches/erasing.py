"""Erasing what is hidden already, a step at a time.

What is erased is overwritten, and until a step is done the database's log holds as much as the step frees: all at
once would take room that a full disk has not, and let others wait. Whoever is interrupted goes on later.

All who want something erased at the same time share one pass: a hundred uploads that broke off are erased by one.
"""

import asyncio
from collections.abc import Awaitable, Callable

from sqlalchemy import ColumnElement, Connection, delete, select

from cohabit.batches.errors import StorageError
from cohabit.batches.tables import ERASED, batches, chunks, files, lines
from cohabit.runtime.supervision import supervise

_CHUNKS = 2
_LINES = 200


class Eraser:
    """Makes passes over a database, one after the other, as long as anybody asks for one."""

    def __init__(self, erase: Callable[[list[str]], Awaitable[None]]) -> None:
        """``erase`` is a pass: it hides these files, and erases all that is hidden. It may raise StorageError."""
        self._erase = erase
        self._files: list[str] = []
        self._running: asyncio.Task[StorageError | None] | None = None
        self._next: asyncio.Task[StorageError | None] | None = None

    def drop(self, file_id: str) -> None:
        """Nobody wants this file: hide and erase it with the next pass, which is not waited for."""
        self._files.append(file_id)
        self._next_pass()

    async def erase(self) -> None:
        """Once this returns, all that was hidden before is erased. Raises StorageError."""
        error = await asyncio.shield(self._next_pass())
        if error is not None:
            raise error

    async def close(self) -> None:
        """End the pass under way at its next step. What is left is hidden, and erased when a server starts."""
        passes = [each for each in (self._running, self._next) if each is not None]
        for each in passes:
            each.cancel()
        if passes:
            await asyncio.wait(passes)

    def _next_pass(self) -> asyncio.Task[StorageError | None]:
        """The pass that begins next: one under way may have gone past what is to be erased."""
        if self._next is None:
            self._next = supervise("erasing", self._pass(self._running), lambda _: None)
        return self._next

    async def _pass(self, before: asyncio.Task[StorageError | None] | None) -> StorageError | None:
        if before is not None:
            await asyncio.wait([before])
        self._running, self._next = self._next, None
        dropped, self._files = self._files, []
        try:
            await self._erase(dropped)
        except StorageError as error:  # why has been logged
            self._files += dropped
            return error
        return None


def step(connection: Connection) -> bool:
    """Erase some of it; whether there may be more."""
    file = connection.execute(select(files).where(files.c.purpose == ERASED).limit(1)).first()
    if file is not None:
        wanted = select(chunks.c.number).where(chunks.c.file_id == file.id).limit(_CHUNKS)
        numbers = list(connection.scalars(wanted))
        connection.execute(delete(chunks).where(chunks.c.file_id == file.id, chunks.c.number.in_(numbers)))
        if not _lines(connection, file.batch_id, lines.c.state == file.state) and not numbers:
            connection.execute(delete(files).where(files.c.id == file.id))
        return True
    batch = connection.scalar(select(batches.c.id).where(batches.c.status == ERASED).limit(1))
    if batch is None:
        return False
    if not _lines(connection, batch):
        connection.execute(delete(batches).where(batches.c.id == batch))
    return True


def _lines(connection: Connection, batch_id: str | None, *which: ColumnElement[bool]) -> bool:
    """Erase some lines of a batch; whether there were any.

    With their rows: rows that only become shorter leave their pages to SQLite, which gives none of them back.
    """
    there = lines.c.batch_id == batch_id
    numbers = list(connection.scalars(select(lines.c.number).where(there, *which).limit(_LINES)))
    connection.execute(delete(lines).where(there, lines.c.number.in_(numbers)))
    return bool(numbers)
