"""Logs: one line an event, for people on a terminal and as JSON elsewhere. Never a prompt, never an answer."""

import asyncio
import atexit
import logging
import sys
import threading
import traceback
from collections import deque
from typing import Any, TextIO, cast

import msgspec
import structlog

log = structlog.get_logger()


def _json(line: dict[str, Any], default: Any) -> str:
    return msgspec.json.encode(line, enc_hook=default).decode()


class _InRounds:
    """A file that is written to once a round of the event loop, with all that is logged in it.

    What other threads log, or what is logged without a loop, is written at once.
    """

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._lines: deque[str] = deque()
        self._lock = threading.Lock()
        self._due = False
        atexit.register(self._out)

    def write(self, text: str) -> None:
        """Keep it until ``flush``."""
        self._lines.append(text)

    def flush(self) -> None:
        """Soon."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._out()
        else:
            if not self._due:
                self._due = True
                loop.call_soon(self._out_of_loop)

    def _out_of_loop(self) -> None:
        self._due = False
        self._out()

    def _out(self) -> None:
        with self._lock:
            lines = [self._lines.popleft() for _ in range(len(self._lines))]
            if lines:
                self._file.write("".join(lines))
                self._file.flush()


def configure(level: str) -> None:
    """Set structlog up for the process. ``level`` is debug, info, warning or error."""
    renderer: Any
    if sys.stderr.isatty():
        # Plain tracebacks: rich's would print local variables, and with them what clients sent.
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        errors: list[Any] = []
    else:
        renderer = structlog.processors.JSONRenderer(serializer=_json)
        errors = [structlog.processors.format_exc_info]
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it tells of bytes in forms that it cannot read
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=False),
            *errors,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", _InRounds(sys.stderr))),
        cache_logger_on_first_use=True,
    )


def log_bug(error: Exception, **fields: str) -> None:
    """An exception that nobody expected: where it happened is logged, what was sent is not."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    where = [f"{frame.filename}:{frame.lineno}" for frame in reversed(frames)]
    log.error("unexpected error", kind=type(error).__name__, where=where, **fields)
