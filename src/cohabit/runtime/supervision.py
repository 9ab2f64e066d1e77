"""Every task of ours is supervised: none may fail without being noticed.

There are three kinds, and no other way to make a task (``tests/runtime/test_supervision.py`` checks the source):

- ``TaskSupervisor.keep``: runs as long as the server does. If it raises, that is logged, counted and told as an
  alert, and it is started again, with exponential back-off.
- ``supervise``: somebody is told if it raises, and decides what that means.
- ``awaited``: its maker awaits it and gets what it raises.

What raises outside of any task, as a timer or a protocol's callback, reaches ``TaskSupervisor.unhandled``.
"""

import asyncio
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import structlog

from cohabit.core.snapshot import Alert, Severity
from cohabit.devices import DeviceError

T = TypeVar("T")

FIRST_PAUSE = 0.5  # seconds before a task is started again
LONGEST_PAUSE = 10.0
RECOVERED_AFTER = 60.0  # seconds without a failure after which the alert ends and the pause is the first again

log = structlog.get_logger()

_running: set[asyncio.Task[Any]] = set()
"""The event loop itself holds tasks weakly: without this one could vanish while it waits."""


def where(error: BaseException) -> list[str]:
    """The places an error passed, the last first. Its text is left out, since it may quote a client."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames)]


def error_text(error: BaseException) -> str:
    """Its type, with its text where that comes from the system and not from a client."""
    kind = type(error).__name__
    return f"{kind}: {error}" if isinstance(error, OSError | DeviceError) else kind


def awaited(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task whose maker awaits it, also if only after cancelling it."""
    return asyncio.create_task(coroutine)


def supervise(
    name: str, coroutine: Coroutine[Any, Any, T], failed: Callable[[BaseException], None]
) -> asyncio.Task[T]:
    """A task of this name. If it raises, that is logged, and ``failed`` is told."""
    task = asyncio.create_task(coroutine, name=name)

    def ended(task: asyncio.Task[T]) -> None:
        _running.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("task failed", task=name, error=error_text(error), where=where(error))
            failed(error)

    _running.add(task)
    task.add_done_callback(ended)
    return task


class TaskSupervisor:
    """Keeps the tasks of one server running, and knows which have failed."""

    def __init__(self, fail: Callable[[str, BaseException], None]) -> None:
        """``fail`` is called with the name of a task that cannot go on, and takes the server down."""
        self.restarts: Counter[str] = Counter()
        """How often each task was started again, by name; it has every task that is kept."""
        self._fail = fail
        self._failing: dict[str, float] = {}  # by name: when it failed last

    def keep(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Run it until it returns by itself, starting it again whenever it raises."""
        self.restarts[name] += 0
        return supervise(name, self._keep(name, run), lambda error: self._fail(name, error))

    def alerts(self) -> Iterator[Alert]:
        """One for each task that has failed lately."""
        now = asyncio.get_running_loop().time()
        for name, at in self._failing.items():
            if now - at < RECOVERED_AFTER:
                text = f"the task {name!r} fails and is started again ({self.restarts[name]} so far); see the log"
                yield Alert("task_restarting", Severity.WARNING, text)

    def unhandled(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """For ``loop.set_exception_handler``: what raised where nobody can catch it."""
        error = context.get("exception")
        details = {} if error is None else {"error": error_text(error), "where": where(error)}
        during = str(context.get("message")).partition("(")[0]  # then arguments, perhaps a client's words
        log.error("unexpected error in the event loop", during=during, **details)

    async def _keep(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while True:
            began = loop.time()
            try:
                return await run()
            except Exception as error:
                self._failing[name] = failed = loop.time()
                if failed - began > RECOVERED_AFTER:
                    pause = FIRST_PAUSE
                self.restarts[name] += 1
                log.error("task failed", task=name, error=error_text(error), where=where(error), again_in=pause)  # noqa: TRY400 - its text may quote a client
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE, 2 * pause)
