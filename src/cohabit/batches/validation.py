"""Reading the input of a batch, a piece at a time, into lines that wait and lines that are wrong.

What is wrong with a line is that line's own error; the others are answered. A batch fails as a whole only if it has
no line that could be asked, or more than may be.
"""

from typing import Any

from sqlalchemy import Connection, delete, insert, update

from cohabit.batches import files, line_store, records
from cohabit.batches.errors import Missing
from cohabit.batches.lines import MAX_LINE, ParsedLine, Resolve, Splitter, WrongLine, parse
from cohabit.batches.tables import FAILED, WAITING, batches, lines
from cohabit.schemas.batches import LineError, LineErrors

MAX_ERRORS = 100  # in ``errors`` of a batch; its error file has all


class InputValidation:
    """Reads one batch: ``step`` is for ``Database.write``, until it says that it is done.

    After an error of the database it is of no use; a new one forgets what was read and starts over.
    """

    def __init__(self, batch_id: str, file_id: str, resolve: Resolve, most_lines: int) -> None:
        """``resolve`` tells which configured model a name means."""
        self._batch = batch_id
        self._file = file_id
        self._resolve = resolve
        self._most = most_lines
        self._splitter = Splitter()
        self._place = -1  # of the last piece
        self._number = 0  # of the last line
        self._lines = self._wrong = 0
        self._seen: set[str] = set()
        self._errors: list[LineError] = []

    def step(self, connection: Connection, now: float) -> bool:
        """Read a piece; whether there is nothing left to do, since the batch goes on, has failed or is gone."""
        if self._place < 0:
            connection.execute(delete(lines).where(lines.c.batch_id == self._batch))
        try:
            self._place, piece = files.piece(connection, None, self._file, self._place)
        except Missing:
            return self._refuse(connection, now, LineError(code="file_gone", message="the input file was erased"))
        found = [*self._splitter.lines(piece)] if piece else [self._splitter.last()]
        rows = [row for raw in found if (row := self._row(raw)) is not None]
        if self._lines > self._most:
            message = f"the file has more than {self._most} requests; send them in several batches"
            return self._refuse(connection, now, LineError(code="too_many_requests_in_file", message=message))
        if rows:
            connection.execute(insert(lines), rows)
        return not piece and self._end(connection, now)

    def _row(self, raw: bytes | None) -> dict[str, Any] | None:
        self._number += 1
        if raw == b"":
            return None
        self._lines += 1
        row: dict[str, Any] = {"batch_id": self._batch, "number": self._number, "model": ""}
        try:
            asked = self._parsed(raw)
        except WrongLine as wrong:
            self._wrong += 1
            error = LineError(code=wrong.code, message=str(wrong), line=self._number, param=wrong.param)
            if len(self._errors) < MAX_ERRORS:
                self._errors.append(error)
            said = f"line {self._number}: {wrong}"
            outcome = line_store.failed(self._batch, self._number, wrong.custom_id, wrong.code, said)
            kept = {"custom_id": wrong.custom_id, "url": None, "body": None, "outcome": outcome.line}
            return {**row, "state": FAILED, **kept}
        row["model"] = self._resolve(asked.model) or "" if asked.model is not None else ""
        kept = {"custom_id": asked.custom_id, "url": asked.url, "body": asked.body, "outcome": None}
        return {**row, "state": WAITING, **kept}

    def _parsed(self, raw: bytes | None) -> ParsedLine:
        if raw is None:
            raise WrongLine("line_too_long", f"a line may have at most {MAX_LINE >> 20} MiB")
        asked = parse(raw)
        if asked.custom_id in self._seen:
            message = "an earlier line has the same custom_id; only that one is answered"
            raise WrongLine("duplicate_custom_id", message, param="custom_id", custom_id=asked.custom_id)
        self._seen.add(asked.custom_id)
        return asked

    def _end(self, connection: Connection, now: float) -> bool:
        if self._lines == self._wrong:
            missing = LineError(code="no_requests", message="the file has no line that could be answered")
            return self._refuse(connection, now, missing)
        counts = {"total": self._lines, "completed": 0, "failed": self._wrong}
        connection.execute(update(batches).where(batches.c.id == self._batch).values(counts))
        if self._errors:
            records.set_errors(connection, self._batch, LineErrors(data=self._errors))
        records.begin(connection, self._batch, now)
        return True

    def _refuse(self, connection: Connection, now: float, error: LineError) -> bool:
        errors = [error, *self._errors][:MAX_ERRORS]
        records.refuse(connection, self._batch, LineErrors(data=errors), now)
        return True
