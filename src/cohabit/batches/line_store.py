"""The lines of a batch as work: which wait, what has become of them, and how that reads in output and error files.

Functions for ``Database.read`` and ``Database.write``. Source of the format: OpenAI's API reference, "The request
output object".
"""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, func, select, update

from cohabit.batches.asgi_client import AppResponse
from cohabit.batches.files import some
from cohabit.batches.tables import ANSWERED, FAILED, WAITING, batches, lines

_PAGE = 500  # lines of one transaction


@dataclass(frozen=True, slots=True)
class BatchLine:
    """A request that waits."""

    number: int  # from 1
    custom_id: str
    url: str
    body: bytes


@dataclass(frozen=True, slots=True)
class LineResult:
    """What has become of a line: once written down it stays so."""

    number: int
    state: str  # ANSWERED or FAILED
    line: bytes  # with its end


def answered(batch_id: str, number: int, custom_id: str, answer: AppResponse) -> LineResult:
    """The server's answer to it, an error too."""
    body = msgspec.json.format(answer.body, indent=-1) if b"\n" in answer.body else answer.body
    response = {"status_code": answer.status, "request_id": answer.request_id, "body": msgspec.Raw(body)}
    if answer.warning is not None:
        response["warning"] = answer.warning
    return LineResult(
        number, ANSWERED if answer.status < 400 else FAILED, _line(batch_id, number, custom_id, response, None)
    )


def failed(batch_id: str, number: int, custom_id: str | None, code: str, message: str) -> LineResult:
    """It was not asked, or not answered in time."""
    error = {"code": code, "message": message}
    return LineResult(number, FAILED, _line(batch_id, number, custom_id, None, error))


def _line(batch_id: str, number: int, custom_id: str | None, response: object, error: dict[str, str] | None) -> bytes:
    name = f"batch_req_{batch_id.removeprefix('batch_')}_{number}"
    return msgspec.json.encode({"id": name, "custom_id": custom_id, "response": response, "error": error}) + b"\n"


def models(connection: Connection, batch_id: str) -> list[str]:
    """Of whom lines wait."""
    wanted = select(lines.c.model).where(lines.c.batch_id == batch_id, lines.c.state == WAITING).distinct()
    return list(connection.scalars(wanted.order_by(lines.c.model)))


def waiting(
    connection: Connection, batch_id: str, model: str, after: int, *, most: int, most_bytes: int
) -> list[BatchLine]:
    """The next ones of a model, in the order of the input, from behind ``after``; one at least, if there is one."""
    there = (
        lines.c.batch_id == batch_id,
        lines.c.state == WAITING,
        lines.c.model == model,
        lines.c.number > after,
    )
    sizes = connection.execute(
        select(lines.c.number, func.length(lines.c.body)).where(*there).order_by(lines.c.number).limit(most)
    ).all()
    numbers = some(sizes, most_bytes)
    if not numbers:
        return []
    wanted = select(lines.c.number, lines.c.custom_id, lines.c.url, lines.c.body)
    rows = connection.execute(wanted.where(*there, lines.c.number <= numbers[-1]).order_by(lines.c.number))
    return [BatchLine(*row) for row in rows]


def record(connection: Connection, batch_id: str, outcomes: Sequence[LineResult]) -> int:
    """Write down what has become of lines; how many of them were still waiting.

    A line that has an outcome keeps it, whatever comes later: that is what answers it exactly once.
    """
    counts = {ANSWERED: 0, FAILED: 0}
    for outcome in outcomes:
        counts[outcome.state] += connection.execute(
            update(lines)
            .where(lines.c.batch_id == batch_id, lines.c.number == outcome.number, lines.c.state == WAITING)
            .values(state=outcome.state, outcome=outcome.line, body=None)
        ).rowcount
    connection.execute(
        update(batches)
        .where(batches.c.id == batch_id)
        .values(
            completed=batches.c.completed + counts[ANSWERED],
            failed=batches.c.failed + counts[FAILED],
        )
    )
    return sum(counts.values())


def give_up(connection: Connection, batch_id: str, code: str, message: str) -> int:
    """Some of those that wait will not be asked; how many. To be called until it is 0."""
    wanted = select(lines.c.number, lines.c.custom_id).where(lines.c.batch_id == batch_id, lines.c.state == WAITING)
    rows = connection.execute(wanted.order_by(lines.c.number).limit(_PAGE)).all()
    return record(connection, batch_id, [failed(batch_id, number, name, code, message) for number, name in rows])
