"""Erasing what is hidden already, a step at a time.

What is erased is overwritten, and until a step is done the database's log holds as much as the step frees: all at
once would take room that a full disk has not, and let others wait. Whoever is interrupted goes on later.
"""

from sqlalchemy import ColumnElement, Connection, delete, select

from cohabit.batches.schema import ERASED, batches, chunks, files, lines

_CHUNKS = 2
_LINES = 200


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
