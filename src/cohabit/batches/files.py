"""Files: sent in pieces, read in pieces, erased when their time has come.

Functions for ``Database.read`` and ``Database.write``. ``owner`` is the name of a key, and None may see everything.
What a batch has made is no copy: such a file is the outcomes of the batch's lines, in the order of the input.
"""

from collections.abc import Sequence
from itertools import accumulate, takewhile
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, true, update

from cohabit.batches.errors import Conflict, Missing
from cohabit.batches.tables import ERASED, batches, chunks, files, lines, new_id
from cohabit.schemas.files import FileList, FileObject, FileUpload, kept_for

PIECE = 1 << 19  # bytes of one commit of an upload, and about as much is read at once
_MAX_LINES = 256  # looked at for one piece


def stored(connection: Connection) -> int:
    """Bytes of all files."""
    return int(connection.scalar(select(func.coalesce(func.sum(files.c.bytes), 0))) or 0)


def begin(connection: Connection, owner: str, filename: str, now: float) -> str:
    """The id of a file that is about to be sent; nobody sees it before it is ``sealed``."""
    file_id = new_id("file-", now)
    connection.execute(
        insert(files),
        {
            "id": file_id,
            "owner": owner,
            "purpose": "",
            "filename": filename,
            "bytes": 0,
            "created_at": int(now),
            "expires_at": 0,
            "whole": False,
        },
    )
    return file_id


def begin_beside(connection: Connection, owner: str, filename: str, now: float) -> tuple[int, str]:
    """``begin``, and the bytes that all others have."""
    return stored(connection), begin(connection, owner, filename, now)


def append(connection: Connection, file_id: str, number: int, data: bytes) -> None:
    """The next piece, counted from 0."""
    connection.execute(insert(chunks), {"file_id": file_id, "number": number, "data": data})
    connection.execute(update(files).where(files.c.id == file_id).values(bytes=files.c.bytes + len(data)))


def seal(connection: Connection, file_id: str, upload: FileUpload, now: float, retention: float) -> FileObject:
    """It is there, whole."""
    expires = int(now + kept_for(retention, upload.expires_after))
    connection.execute(
        update(files)
        .where(files.c.id == file_id)
        .values(whole=True, purpose=upload.purpose, created_at=int(now), expires_at=expires)
    )
    return shown(_row(connection, None, file_id))


def discard(connection: Connection, file_ids: Sequence[str]) -> None:
    """They will not be sent to their end."""
    connection.execute(update(files).where(files.c.id.in_(file_ids)).values(purpose=ERASED))


def get(connection: Connection, owner: str | None, file_id: str) -> FileObject:
    """Raises Missing."""
    return shown(_row(connection, owner, file_id))


def page(
    connection: Connection, owner: str | None, *, purpose: str | None, after: str | None, limit: int, newest: bool
) -> FileList:
    """Some of them, by when they were made, from behind ``after``."""
    wanted = select(files).where(files.c.whole, _owned(owner))
    if purpose is not None:
        wanted = wanted.where(files.c.purpose == purpose)
    if after is not None:
        wanted = wanted.where(files.c.id < after if newest else files.c.id > after)
    found = connection.execute(wanted.order_by(files.c.id.desc() if newest else files.c.id).limit(limit + 1)).all()
    return FileList.of([shown(row) for row in found], limit)


def piece(connection: Connection, owner: str | None, file_id: str, after: int) -> tuple[int, bytes]:
    """What stands behind place ``after`` (-1: the beginning), and its own place; nothing at the end.

    Raises Missing, also where it was erased while it was read.
    """
    row = _row(connection, owner, file_id)
    if row.batch_id is None:
        data = connection.scalar(
            select(chunks.c.data).where(chunks.c.file_id == file_id, chunks.c.number == after + 1)
        )
        return after + 1, data or b""
    there = (lines.c.batch_id == row.batch_id, lines.c.state == row.state, lines.c.number > after)
    sizes = connection.execute(
        select(lines.c.number, func.length(lines.c.outcome)).where(*there).order_by(lines.c.number).limit(_MAX_LINES)
    ).all()
    numbers = some(sizes, PIECE)
    if not numbers:
        return after, b""
    found = select(lines.c.outcome).where(*there, lines.c.number <= numbers[-1]).order_by(lines.c.number)
    return numbers[-1], b"".join(connection.scalars(found))


def hide(connection: Connection, owner: str | None, file_id: str) -> None:
    """To be erased. Raises Missing, Conflict where a batch is about to read it."""
    _row(connection, owner, file_id)
    wanted = select(batches.c.id).where(batches.c.input_file_id == file_id, batches.c.status == "validating")
    if connection.execute(wanted).first() is not None:
        raise Conflict("a batch is reading this file; cancel the batch or wait a moment", "file_in_use")
    connection.execute(update(files).where(files.c.id == file_id).values(whole=False, purpose=ERASED))


def expire(connection: Connection, now: float) -> None:
    """Hide what has been kept for long enough."""
    reading = select(batches.c.input_file_id).where(batches.c.status == "validating")
    over = (files.c.whole, files.c.expires_at <= int(now), files.c.id.not_in(reading))
    connection.execute(update(files).where(*over).values(whole=False, purpose=ERASED))


def abandon(connection: Connection, before: float) -> None:
    """Hide what began to be sent before that and is not there yet: whoever sent it has gone."""
    connection.execute(update(files).where(~files.c.whole, files.c.created_at < int(before)).values(purpose=ERASED))


def some(sizes: Sequence[tuple[int, int] | Row[int, int]], most: int) -> list[int]:
    """The numbers of the first few that have together up to ``most`` bytes; of one at least, if there is one."""
    totals = accumulate(size for _, size in sizes)
    fitting = takewhile(lambda pair: pair[1] <= most, zip(sizes, totals, strict=True))
    return [row[0] for row, _ in fitting] or [row[0] for row in sizes[:1]]


def shown(row: Row[Any]) -> FileObject:
    """As clients see it."""
    return FileObject(
        id=row.id,
        bytes=row.bytes,
        created_at=row.created_at,
        expires_at=row.expires_at,
        filename=row.filename,
        purpose=row.purpose,
    )


def _row(connection: Connection, owner: str | None, file_id: str) -> Row[Any]:
    wanted = select(files).where(files.c.id == file_id, files.c.whole, _owned(owner))
    row = connection.execute(wanted).first()
    if row is None:
        raise Missing("file")
    return row


def _owned(owner: str | None) -> ColumnElement[bool]:
    return true() if owner is None else files.c.owner == owner
