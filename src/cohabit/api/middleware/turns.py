"""Requests that come at the same moment, a few at a time."""

import asyncio
from collections import deque
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

PER_ROUND: Final = 4
"""With fewer the first answers would go out earlier, but each round has its calls of the kernel and wakes workers."""


class Turns:
    """Lets so many requests begin in one round of the event loop, in the order they came.

    Between two rounds the loop hears its workers: they run what has begun while more begins, and the first answers
    go out before the last requests of a crowd are looked at. Else all would begin before one could be answered.
    """

    def __init__(self, app: ASGIApp) -> None:
        """Wrap the app."""
        self._app = app
        self._left = PER_ROUND  # that may begin in this round; all of them only while no other round is due
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak ASGI."""
        if self._left:
            if self._left == PER_ROUND:
                asyncio.get_running_loop().call_soon(self._next_round)
            self._left -= 1
        else:
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            await turn
        await self._app(scope, receive, send)

    def _next_round(self) -> None:
        self._left = PER_ROUND
        while self._waiting and self._left:
            turn = self._waiting.popleft()
            if not turn.done():  # or nobody waits for it any more
                turn.set_result(None)
                self._left -= 1
        if self._left < PER_ROUND:
            asyncio.get_running_loop().call_soon(self._next_round)
