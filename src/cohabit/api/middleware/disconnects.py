"""A client that hangs up is noticed within moments, whether it waits or is being answered."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar, Protocol, Self
from weakref import WeakKeyDictionary

from starlette.types import Receive

from cohabit.runtime.supervision import supervise

WATCHED_AFTER = 0.01  # seconds; most short answers are there by then, and need no task to watch over them
CLIENT_GONE = 499  # nobody reads it; it stands in the access log


class Cancellable(Protocol):
    """One answer or several."""

    def cancel(self) -> object:
        """Nobody wants it any more."""


class Watch:
    """Cancels an answer when its client has gone. A context manager round waiting and sending.

    ``receive`` must have given the whole body already: what it gives next is the disconnect.
    """

    def __init__(self, receive: Receive, answer: Cancellable, when_gone: Callable[[], object] = lambda: None) -> None:
        """``when_gone`` is called after the cancel."""
        self._receive = receive
        self._answer = answer
        self._when_gone = when_gone
        self.gone = False
        self._over = False
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        """Begin to watch, soon."""
        _Soon.of_loop().add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching; an answer that was left half-way is cancelled, one that ended is not touched."""
        self._over = True
        if self._task is not None:
            self._task.cancel()
        if kind is not None:
            self._answer.cancel()

    def begin(self) -> None:
        """Watch from now on, unless it is over."""
        if not self._over:
            self._task = supervise("watch for a disconnect", self._watch(), lambda _: self._left())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left()

    def _left(self) -> None:
        self.gone = True
        self._answer.cancel()
        self._when_gone()


class _Soon:
    """Begins watches when WATCHED_AFTER has passed, with one timer for all of a loop.

    Most are over by then, and to set and cancel a timer costs more than all else that is done for one.
    """

    _loops: ClassVar[WeakKeyDictionary[asyncio.AbstractEventLoop, Self]] = WeakKeyDictionary()

    def __init__(self) -> None:
        self._waiting: deque[tuple[float, Watch]] = deque()

    @classmethod
    def of_loop(cls) -> Self:
        """The running one's."""
        loop = asyncio.get_running_loop()
        found = cls._loops.get(loop)
        if found is None:
            found = cls._loops[loop] = cls()
        return found

    def add(self, watch: Watch) -> None:
        """One more."""
        if not self._waiting:
            asyncio.get_running_loop().call_later(WATCHED_AFTER, self._begin)
        self._waiting.append((time.monotonic() + WATCHED_AFTER, watch))

    def _begin(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            self._waiting.popleft()[1].begin()
        if self._waiting:
            asyncio.get_running_loop().call_later(self._waiting[0][0] - now, self._begin)
