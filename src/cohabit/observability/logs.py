"""Logs: one line an event, for people on a terminal and as JSON elsewhere. Never a prompt, never an answer."""

import atexit
import logging
import os
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TextIO, cast

import msgspec
import structlog

from cohabit.observability.log_writer import LAST_WRITE, LogWriter
from cohabit.runtime.supervision import error_text, where

log = structlog.get_logger()


_writers: list[LogWriter] = []  # the one that is configured


def drain(seconds: float = LAST_WRITE) -> None:
    """Wait until what was logged is written, for up to so many seconds."""
    for writer in _writers:
        writer.drain(seconds)


atexit.register(drain)


def _json(line: dict[str, Any], default: Any) -> str:
    return msgspec.json.encode(line, enc_hook=default).decode()


class _FromLibraries(logging.Handler):
    """What libraries log with the standard library's ``logging``, in our form.

    Without its arguments and the text of its error, which may be a client's words.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Log it."""
        error = record.exc_info[1] if record.exc_info else None
        fields = {} if error is None else {"error": error_text(error), "where": where(error)}
        log.log(record.levelno, str(record.msg).strip(), logger=record.name, **fields)


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
    writer = LogWriter(_writing_to(sys.stderr))
    _writers[:] = [writer]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=False),
            *errors,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", writer)),
        cache_logger_on_first_use=True,
    )
    _take_over()


def _writing_to(file: TextIO) -> Callable[[bytes], int]:
    """Without Python's buffer, which would still hold what could not be written when the process ends."""
    try:
        return partial(os.write, file.fileno())
    except OSError:  # it is no file of the system

        def write(data: bytes) -> int:
            file.write(data.decode())
            file.flush()
            return len(data)

        return write


def _take_over() -> None:
    """Let nothing else write to standard error: it would not be JSON, and might block."""
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it tells of bytes in forms that it cannot read
    logging.basicConfig(level=logging.WARNING, handlers=[_FromLibraries()], force=True)
    logging.captureWarnings(capture=True)

    def in_thread(failed: threading.ExceptHookArgs) -> None:
        error = failed.exc_value
        if error is not None:
            name = failed.thread.name if failed.thread is not None else ""
            log.error("thread failed", thread=name, error=error_text(error), where=where(error))

    def ignored(failed: Any) -> None:
        error = failed.exc_value
        if error is not None:
            log.error("unraisable error", error=error_text(error), where=where(error))

    threading.excepthook = in_thread
    sys.unraisablehook = ignored


def log_bug(error: Exception, **fields: str) -> None:
    """An exception that nobody expected: where it happened is logged, what was sent is not."""
    log.error("unexpected error", kind=type(error).__name__, where=where(error)[:4], **fields)
