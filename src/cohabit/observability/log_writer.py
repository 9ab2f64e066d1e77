"""Writes the log in a thread of its own, so that a file that takes nothing holds up nobody.

Standard error may be a pipe that nobody reads, a terminal that is stopped or gone, a full disk. What does not fit
into a bounded queue meanwhile is dropped and counted, and the count is logged once lines are written again.
"""

import threading
from collections import deque
from collections.abc import Callable

import structlog

MAX_WAITING = 4 << 20  # characters
GATHER = 0.02  # seconds in which lines are collected for one write: threads that take turns cost time on few cores
LAST_WRITE = 1.0  # seconds that the end of the process waits

log = structlog.get_logger()


class LogWriter:
    """A file for ``structlog.WriteLoggerFactory``. ``write`` and ``flush`` never block and never raise."""

    def __init__(self, write: Callable[[bytes], int]) -> None:
        """``write`` takes bytes and returns how many of them it took; it may block, and may raise OSError."""
        self._write_bytes = write
        self._lines: deque[str] = deque()
        self._waiting = 0  # characters, those that are being written included
        self._dropped = 0
        self._lock = threading.Lock()  # of the three above
        self._wanted = threading.Event()
        self._written = threading.Event()
        self._written.set()
        self._thread: threading.Thread | None = None

    def write(self, text: str) -> None:
        """Queue it, or count it if too much waits already."""
        with self._lock:
            if self._waiting + len(text) > MAX_WAITING:
                self._dropped += 1
                return
            self._waiting += len(text)
            self._lines.append(text)
            self._written.clear()

    def flush(self) -> None:
        """Have it written soon."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._keep_writing, name="log", daemon=True)
            self._thread.start()
        self._wanted.set()

    def drain(self, seconds: float = LAST_WRITE) -> None:
        """Wait until all is written, for up to so many seconds."""
        if not self._written.is_set():
            self.flush()
            self._written.wait(seconds)

    # in the thread

    def _keep_writing(self) -> None:
        while True:
            self._wanted.wait()
            self._wanted.clear()
            threading.Event().wait(GATHER)
            self._write_all()

    def _write_all(self) -> None:
        with self._lock:
            lines = list(self._lines)
            self._lines.clear()
        try:
            data = "".join(lines).encode(errors="replace")
            while data:
                data = data[self._write_bytes(data) :]
        except OSError:
            lost = len(lines)  # the file is gone or full; the next lines may fare better
        else:
            lost = 0
        with self._lock:
            self._waiting -= sum(map(len, lines))
            dropped = 0 if lost else self._dropped
            self._dropped += lost - dropped
            if not self._lines and not dropped:
                self._written.set()
        if dropped:
            log.warning("lines of the log were dropped", lines=dropped)
