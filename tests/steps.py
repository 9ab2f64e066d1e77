"""A build of the server that measures each step of its event loop, in seconds of its thread's processor time.

``python steps.py FILE COMMAND ARGUMENTS...`` runs a console script in this process. What a step took that was longer
than NOTED is appended to FILE, a line of JSON each, with where the step was when it had taken so long. Processor time
and not the wall clock: another process on the machine must not fail a test.
"""

import asyncio
import gc
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec
import uvloop

MOST = 0.05  # seconds that a step may take
NOTED = 0.01
_SELF = Path(__file__)


class Step(msgspec.Struct, frozen=True):
    """One that was noted."""

    seconds: float
    collecting: float  # of them, garbage
    what: str
    where: list[str]


def noted(file: Path) -> list[Step]:
    """What a server wrote there, the longest first."""
    lines = file.read_text().splitlines() if file.exists() else []
    return sorted((msgspec.json.decode(line, type=Step) for line in lines), key=lambda step: -step.seconds)


def within(file: Path) -> list[str]:
    """The command in front of the server's, for ``harness.serving``."""
    return [sys.executable, str(_SELF), str(file)]


class _Collecting:
    """Seconds that went into collecting garbage."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began = 0.0
        gc.callbacks.append(self._told)

    def _told(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._began = time.thread_time()
        else:
            self.seconds += time.thread_time() - self._began


def _measuring(run: Callable[[Any], None], file: Path) -> Callable[[Any], None]:
    where: list[str] = []

    def look(_signal: int, frame: FrameType | None) -> None:
        where[:] = [f"{each.filename}:{each.lineno} {each.name}" for each in traceback.extract_stack(frame)[-12:]]

    signal.signal(signal.SIGPROF, look)
    collecting = _Collecting()

    def measured(handle: Any) -> None:
        where.clear()
        collecting.seconds = 0.0
        signal.setitimer(signal.ITIMER_PROF, NOTED)
        began = time.thread_time()
        try:
            run(handle)
        finally:
            seconds = time.thread_time() - began
            signal.setitimer(signal.ITIMER_PROF, 0)
            if seconds > NOTED:
                step = Step(seconds, collecting.seconds, repr(handle)[:300], where)
                with file.open("ab") as out:
                    out.write(msgspec.json.encode(step) + b"\n")

    return measured


def main() -> None:
    """Run the command that is given, on asyncio's own loop."""
    file, command, *arguments = sys.argv[1:]
    handle: Any = asyncio.Handle
    handle._run = _measuring(handle._run, Path(file))
    uvloop.run = asyncio.run  # type: ignore[assignment]  # whose loop is written in Python
    sys.argv = [command, *arguments]
    runpy.run_path(command, run_name="__main__")


if __name__ == "__main__":
    main()
