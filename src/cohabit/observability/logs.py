"""Logs: one line an event, for people on a terminal and as JSON elsewhere. Never a prompt, never an answer."""

import logging
import sys
import traceback
from typing import Any

import msgspec
import structlog

log = structlog.get_logger()


def _json(line: dict[str, Any], default: Any) -> str:
    return msgspec.json.encode(line, enc_hook=default).decode()


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
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def log_bug(error: Exception, **fields: str) -> None:
    """An exception that nobody expected: where it happened is logged, what was sent is not."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    where = [f"{frame.filename}:{frame.lineno}" for frame in reversed(frames)]
    log.error("unexpected error", kind=type(error).__name__, where=where, **fields)
