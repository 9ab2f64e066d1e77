"""Writes down what the core is told and decides, so that ``cohabit replay`` can look at it afterwards.

What never passes the core is not in it: no prompt, no answer. Clients, who are addresses or the names of keys, are
recorded as c1, c2 and so on, since a replay only needs to tell them apart. The one text that comes from elsewhere is
``WorkerExited.detail``: why a model's files could not be had, how a process ended, or an engine's words on why its
load failed. It cannot hold a prompt, because a worker says that of a load only (``worker/loop``), before it has been
given any request; what goes wrong during a run reaches the core without its text.
"""

import os
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Self

import structlog

from cohabit.core.commands import Command
from cohabit.core.events import Event, RequestArrived
from cohabit.observability.journal_format import Head, write_entry, write_head

PERIOD = 1.0  # seconds between two writes
LAST_WRITE = 5.0  # seconds that a stop waits for a disk
BACKLOG = 64 << 20  # bytes that may wait for a slow disk
KEPT = 10  # files, this one included

log = structlog.get_logger()


class Journal:
    """A file, written by a thread of its own: the control loop only encodes a line.

    It never fails the server. If it cannot be written or grows beyond ``limit`` bytes it says so in the log once and
    ends; what is in the file by then can be replayed.
    """

    def __init__(self, path: Path, head: Head, *, limit: int) -> None:
        """Begin a new file; the oldest beyond KEPT in its folder go."""
        self._path = path
        self._limit = limit
        self._clients: dict[str, str] = {}
        self._lines: deque[bytes] = deque([write_head(head)])
        self._taken = len(self._lines[0])  # bytes; counted by the control loop only
        self._written = 0  # by the thread only
        self._stopped = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, name="journal", daemon=True)
        self._thread.start()
        log.info("recording events", path=str(path), limit_mib=limit >> 20)

    def handled(self, event: Event, commands: Sequence[Command], now: float) -> None:
        """A ``control_loop.Observe``."""
        if self._stopped:
            return
        try:
            line = write_entry(now, self._unnamed(event), commands)
        except (TypeError, ValueError, OverflowError) as error:
            self._stop(f"{type(event).__name__} cannot be written down: {error}")
            return
        if self._taken + len(line) > self._limit:
            self._stop("it has reached its limit")
        elif self._taken - self._written > BACKLOG:
            self._stop("the disk does not keep up")
        else:
            self._taken += len(line)
            self._lines.append(line)

    def close(self) -> None:
        """Write what is left, and take nothing more."""
        self._stopped = True
        self._closing.set()
        self._thread.join(LAST_WRITE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _unnamed(self, event: Event) -> Event:
        if not isinstance(event, RequestArrived):
            return event
        return replace(event, client=self._clients.setdefault(event.client, f"c{len(self._clients) + 1}"))

    def _stop(self, why: str) -> None:
        self._stopped = True
        log.warning("the journal ends", path=str(self._path), why=why)

    # in the thread

    def _keep_writing(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with FileIO(self._path, "x", opener=_private) as file:
                self._remove_old()
                going = True
                while going:
                    going = not self._closing.wait(PERIOD if self._written else 0.0)
                    self._write(file)
        except Exception as error:  # whatever it is, the server goes on without a journal, and the log says so
            self._stop((error.strerror if isinstance(error, OSError) else None) or f"{type(error).__name__}: {error}")
            self._lines.clear()

    def _write(self, file: FileIO) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        left = memoryview(b"".join(lines))
        while left:
            count = file.write(left)
            self._written += count
            left = left[count:]

    def _remove_old(self) -> None:
        for old in sorted(self._path.parent.glob("*.jsonl"))[:-KEPT]:
            old.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    """It says when which client asked for what: only the user of the server may read it."""
    return os.open(path, flags, 0o600)
