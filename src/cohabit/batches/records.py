"""Batches as they are written down: made, looked at, moved from one status to the next, erased.

Functions for ``Database.read`` and ``Database.write``. ``owner`` is the name of a key, and None may see everything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Row, delete, func, insert, select, update

from cohabit.access.keys import Principal
from cohabit.batches import files
from cohabit.batches.errors import Conflict, Missing
from cohabit.batches.tables import ANSWERED, ERASED, FAILED, batches, lines, new_id
from cohabit.batches.tables import files as files_table
from cohabit.schemas.batches import ENDED, Batch, BatchList, BatchRequest, LineErrors, RequestCounts
from cohabit.schemas.files import kept_for

_MADE = {ANSWERED: "output", FAILED: "error"}


@dataclass(frozen=True, slots=True)
class PendingWork:
    """A batch that is not at its end, as the runner needs it. Times are Unix seconds."""

    id: str
    owner: str
    status: str
    input_file_id: str
    created_at: int
    expires_at: int
    total: int
    done: int


def create(
    connection: Connection, principal: Principal, request: BatchRequest, now: float, retention: float
) -> Batch:
    """Write it down. Raises Missing if there is no such file, Conflict if a batch made it."""
    source = files.get(connection, principal.owner_filter, request.input_file_id)
    if source.purpose != "batch":
        raise Conflict("this file was made by a batch; send a file of requests first", "wrong_purpose")
    batch_id = new_id("batch_", now)
    connection.execute(
        insert(batches),
        {
            "id": batch_id,
            "owner": principal.name,
            "status": "validating",
            "input_file_id": request.input_file_id,
            "endpoint": request.endpoint,
            "completion_window": request.completion_window,
            "metadata": None if request.metadata is None else msgspec.json.encode(request.metadata).decode(),
            "output_seconds": int(kept_for(retention, request.output_expires_after)),
            "created_at": int(now),
            "expires_at": int(now + request.window()),
            "total": 0,
            "completed": 0,
            "failed": 0,
        },
    )
    return get(connection, None, batch_id)


def get(connection: Connection, owner: str | None, batch_id: str) -> Batch:
    """Raises Missing."""
    row = connection.execute(select(batches).where(batches.c.id == batch_id, _seen(owner))).first()
    if row is None:
        raise Missing("batch")
    return _shown(connection, row)


def page(connection: Connection, owner: str | None, *, after: str | None, limit: int) -> BatchList:
    """Some of them, the newest first, from behind ``after``."""
    wanted = select(batches).where(_seen(owner))
    if after is not None:
        wanted = wanted.where(batches.c.id < after)
    rows = connection.execute(wanted.order_by(batches.c.id.desc()).limit(limit + 1)).all()
    return BatchList.of([_shown(connection, row) for row in rows], limit)


def cancel(connection: Connection, owner: str | None, batch_id: str, now: float) -> Batch:
    """No more of it is begun. Raises Missing, Conflict where it has ended."""
    found = get(connection, owner, batch_id)
    if found.status in ENDED or found.status == "finalizing":
        raise Conflict(f"this batch is {found.status}; there is nothing left to cancel", "batch_ended")
    if found.status != "cancelling":
        _move(connection, batch_id, "cancelling", now)
    return get(connection, owner, batch_id)


def hide(connection: Connection, owner: str | None, batch_id: str) -> None:
    """To be erased, with the files it made; the one it read has a life of its own.

    Raises Missing, Conflict while it goes on.
    """
    if get(connection, owner, batch_id).status not in ENDED:
        raise Conflict("this batch is not at its end; cancel it first", "batch_not_ended")
    _hide(connection, [batch_id])


def expire(connection: Connection, now: float) -> None:
    """Hide those that ended so long ago that the files they made have expired."""
    ended = func.coalesce(*(batches.c[f"{status}_at"] for status in sorted(ENDED)))
    over = ended + batches.c.output_seconds <= int(now)
    wanted = select(batches.c.id).where(batches.c.status.in_(ENDED), over)
    _hide(connection, list(connection.scalars(wanted)))


def unfinished(connection: Connection) -> list[PendingWork]:
    """Those that are not at their end, the oldest first."""
    rows = connection.execute(select(batches).where(batches.c.status.not_in({*ENDED, ERASED})).order_by(batches.c.id))
    return [_work(row) for row in rows]


def one(connection: Connection, batch_id: str) -> PendingWork | None:
    """A batch as it stands; None if it is gone."""
    row = connection.execute(select(batches).where(batches.c.id == batch_id)).first()
    return None if row is None else _work(row)


def begin(connection: Connection, batch_id: str, now: float) -> None:
    """It has been read; unless it was cancelled meanwhile, it goes on."""
    _move(connection, batch_id, "in_progress", now, only="validating")


def refuse(connection: Connection, batch_id: str, errors: LineErrors, now: float) -> None:
    """Nothing in it could be answered."""
    connection.execute(delete(lines).where(lines.c.batch_id == batch_id))
    connection.execute(update(batches).where(batches.c.id == batch_id).values(total=0, completed=0, failed=0))
    if _move(connection, batch_id, "failed", now, only="validating"):
        set_errors(connection, batch_id, errors)


def set_errors(connection: Connection, batch_id: str, errors: LineErrors) -> None:
    """What was wrong with lines of it."""
    connection.execute(
        update(batches).where(batches.c.id == batch_id).values(errors=msgspec.json.encode(errors).decode())
    )


def finish(connection: Connection, batch_id: str, status: str, now: float) -> None:
    """Every line has its outcome: now there are files of them."""
    row = connection.execute(select(batches).where(batches.c.id == batch_id)).first()
    if row is None or row.status in {*ENDED, ERASED}:
        return
    _move(connection, batch_id, "finalizing", now)
    for state, name in _MADE.items():
        size = func.coalesce(func.sum(func.length(lines.c.outcome)), 0)
        found = connection.execute(
            select(func.count(), size).where(lines.c.batch_id == batch_id, lines.c.state == state)
        ).one()
        if found[0]:
            connection.execute(
                insert(files_table),
                {
                    "id": new_id("file-", now),
                    "owner": row.owner,
                    "purpose": "batch_output",
                    "filename": f"{batch_id}_{name}.jsonl",
                    "bytes": int(found[1]),
                    "created_at": int(now),
                    "expires_at": int(now) + row.output_seconds,
                    "whole": True,
                    "batch_id": batch_id,
                    "state": state,
                },
            )
    _move(connection, batch_id, status, now)


def _hide(connection: Connection, ids: Sequence[str]) -> None:
    connection.execute(update(batches).where(batches.c.id.in_(ids)).values(status=ERASED))
    made = files_table.c.batch_id.in_(ids)
    connection.execute(update(files_table).where(made).values(whole=False, purpose=ERASED))


def _move(connection: Connection, batch_id: str, status: str, now: float, only: str | None = None) -> bool:
    wanted = update(batches).where(batches.c.id == batch_id)
    if only is not None:
        wanted = wanted.where(batches.c.status == only)
    moved = connection.execute(wanted.values({"status": status, f"{status}_at": int(now)}))
    return bool(moved.rowcount)


def _work(row: Row[Any]) -> PendingWork:
    return PendingWork(
        row.id,
        row.owner,
        row.status,
        row.input_file_id,
        row.created_at,
        row.expires_at,
        row.total,
        row.completed + row.failed,
    )


def _shown(connection: Connection, row: Row[Any]) -> Batch:
    made = {}
    if row.status in ENDED:
        found = select(files_table.c.state, files_table.c.id).where(
            files_table.c.batch_id == row.id, files_table.c.whole
        )
        made = {each.state: each.id for each in connection.execute(found)}
    fields = row._asdict()
    return Batch(
        **{name: value for name, value in fields.items() if name in Batch.__struct_fields__ and name not in _ENCODED},
        output_file_id=made.get(ANSWERED),
        error_file_id=made.get(FAILED),
        errors=None if row.errors is None else msgspec.json.decode(row.errors, type=LineErrors),
        metadata=None if row.metadata is None else msgspec.json.decode(row.metadata),
        request_counts=RequestCounts(total=row.total, completed=row.completed, failed=row.failed),
    )


_ENCODED = {"errors", "metadata"}


def _seen(owner: str | None) -> ColumnElement[bool]:
    there = batches.c.status != ERASED
    return there if owner is None else there & (batches.c.owner == owner)
