"""A client that hangs up is noticed within moments, whether it waits or is being answered."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from starlette.types import Receive

WATCHED_AFTER = 0.01  # seconds; most short answers are there by then, and need no task to watch over them
CLIENT_GONE = 499  # nobody reads it; it stands in the access log


class Cancellable(Protocol):
    """One answer or several."""

    def cancel(self) -> None:
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
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        """Begin to watch, soon."""
        self._begin = asyncio.get_running_loop().call_later(WATCHED_AFTER, self._begin_now)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching; an answer that was left half-way is cancelled, one that ended is not touched."""
        self._begin.cancel()
        if self._task is not None:
            self._task.cancel()
        if kind is not None:
            self._answer.cancel()

    def _begin_now(self) -> None:
        self._task = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._answer.cancel()
        self._when_gone()
