"""How a worker logs an error without quoting what a client sent."""

import sys
import traceback


def report(error: BaseException) -> None:
    """Write an error's type and frames to standard error; not its text, which may hold a prompt."""
    frames = traceback.extract_tb(error.__traceback__)
    where = " <- ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    print(f"{type(error).__name__} at {where}", file=sys.stderr, flush=True)  # noqa: T201 - stderr is the log
