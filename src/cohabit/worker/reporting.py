"""How a worker logs an error without quoting what a client sent."""

import os
import sys
import traceback

_MARK = os.environ.pop("COHABIT_MARK", "")
"""Begins what is written here. What libraries write once the model is loaded may hold a prompt, and is dropped."""


def report(error: BaseException) -> None:
    """Write an error's type and frames to standard error; not its text, which may hold a prompt."""
    frames = traceback.extract_tb(error.__traceback__)
    where = " <- ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    print(f"{_MARK}{type(error).__name__} at {where}", file=sys.stderr, flush=True)  # noqa: T201 - stderr is the log
