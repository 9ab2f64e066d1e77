"""Runs a journal through the core again: the same events must give the same commands."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from cohabit.core.commands import Command
from cohabit.core.snapshot import snapshot
from cohabit.observability.journal_format import SCHEMA, Head, JournalEntry, read_entry, read_head


class JournalError(Exception):
    """A file that is no journal, or not a whole one. The text is one line."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first event that gave other commands. ``raised`` is what the core raised instead of any."""

    entry: JournalEntry
    replayed: Sequence[Command]
    raised: str | None = None


class _Versioned(msgspec.Struct):
    schema: int


class Replay:
    """One run through a file."""

    def __init__(self, path: Path) -> None:
        """Read the head. Raises JournalError."""
        self.events = 0
        self.cut_off = False  # the last line is not whole: its server was killed
        self.difference: Difference | None = None
        self._path = path
        self._lines = self._read()
        self.head = self._head()
        self.now = self.head.clock
        try:
            self._controller = self.head.controller()
        except (msgspec.ValidationError, TypeError) as error:
            raise self._broken(1, error) from None

    def run(self, until: int | None = None) -> None:
        """Go on to the end, to the first difference, or until so many events are through. Raises JournalError."""
        while self.difference is None and self.events != until:
            line = next(self._lines, None)
            if line is None:
                return
            self._take(line)

    def snapshot(self) -> dict[str, Any]:
        """The core as it is now, as ``/admin/status`` showed it."""
        return snapshot(self._controller.state, self.now, self.head.device)

    def _take(self, line: bytes) -> None:
        try:
            entry = read_entry(line)
        except msgspec.DecodeError as error:
            raise self._broken(self.events + 2, error) from None
        self.events += 1
        self.now = entry.now
        try:
            replayed = list(self._controller.handle(entry.event, entry.now))
        except Exception as error:  # a core that contradicts itself is what somebody is looking for
            self.difference = Difference(entry, [], f"{type(error).__name__}: {error}")
        else:
            if replayed != entry.commands:
                self.difference = Difference(entry, replayed)

    def _head(self) -> Head:
        line = next(self._lines, None)
        if line is None:
            raise JournalError(f"{self._path} has no first line: nothing can be replayed")
        try:
            schema = msgspec.json.decode(line, type=_Versioned).schema
            if schema == SCHEMA:
                return read_head(line)
        except msgspec.DecodeError as error:
            raise self._broken(1, error) from None
        raise JournalError(f"{self._path} has schema {schema}; this cohabit reads schema {SCHEMA}")

    def _read(self) -> Iterator[bytes]:
        try:
            with self._path.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        yield line
                    else:
                        self.cut_off = True
        except OSError as error:
            raise JournalError(f"{self._path} cannot be read: {error.strerror or error}") from None

    def _broken(self, line: int, error: Exception) -> JournalError:
        return JournalError(f"{self._path} is no journal, or a broken one: line {line}: {error}")
