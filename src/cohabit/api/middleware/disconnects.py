"""A client that hangs up is noticed within moments, whether it waits or is being answered."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self

from starlette.types import Receive

from cohabit.runtime.supervision import supervise

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
        self._task: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._task = supervise("watch for a disconnect", self._watch(), lambda _: self._left())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching; an answer that was left half-way is cancelled, one that ended is not touched."""
        if self._task is not None:
            self._task.cancel()
            # A cancelled task holds its frames, and these hold this and the request: kept, it would be a cycle, and
            # bodies of many MiB would stay until the garbage collector comes, which may be minutes.
            self._task = None
        if kind is not None:
            self._answer.cancel()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left()

    def _left(self) -> None:
        self.gone = True
        self._answer.cancel()
        self._when_gone()
