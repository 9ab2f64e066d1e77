"""The threads of a worker. One that fails ends the process, so that the server notices and starts another.

A thread that dies alone would leave requests without an end, or a load without a result.
"""

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

from cohabit.worker.child_process import report


def end_process() -> None:
    """Leave at once, with exit code 1. What ran here is told to the core as the exit of this worker."""
    os._exit(1)


def begin(name: str, work: Callable[[], None], failed: Callable[[], None] = end_process) -> None:
    """Do it in a thread of its own, which must not raise: ``failed`` is called if it does."""

    def run() -> None:
        try:
            work()
        except BaseException as error:
            report(error)
            failed()
            raise

    threading.Thread(target=run, name=name, daemon=True).start()


class Threads:
    """Does work on up to so many threads, each made when it is first needed.

    The standard library's pool makes a future for everything, with a lock of its own, that nobody here would look
    at: for a short run that is a third of what handing it over costs.
    """

    def __init__(self, most: int, failed: Callable[[], None] = end_process) -> None:
        """None is started yet. ``failed`` is called if work raises, which it must not."""
        self._most = most
        self._failed = failed
        self._count = 0
        self._under_way = 0
        self._changed = threading.Condition()
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()

    def submit(self, work: Callable[[], None]) -> None:
        """Do it when a thread is free; returns at once."""
        with self._changed:
            self._under_way += 1
            lacking = self._count < min(self._under_way, self._most)
            self._count += lacking
        self._work.put(work)
        if lacking:
            begin("run", self._serve, self._failed)

    def settle(self) -> None:
        """Until all that was submitted is done."""
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way)

    def _serve(self) -> None:
        while True:
            self._do(self._work.get())

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            report(error)
            self._failed()
        finally:
            del work  # what it holds may be an engine that is to leave as soon as all is settled
            with self._changed:
                self._under_way -= 1
                if not self._under_way:
                    self._changed.notify_all()
