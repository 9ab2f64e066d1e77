"""What all batches of a server are run with."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection

from cohabit.batches.asgi_client import AsgiClient
from cohabit.batches.calendar import Calendar
from cohabit.batches.database import Database
from cohabit.batches.errors import StorageError
from cohabit.batches.lines import Resolve

P = ParamSpec("P")
T = TypeVar("T")

AT_ONCE = 32  # lines of one model that are asked, of all batches together
_LONGEST_PAUSE = 30.0  # seconds between two tries of a database

Identify = Callable[[str], Mapping[str, Any] | None]
"""What the app is to find in its scope's state for an owner; None if that one may no longer ask."""


class Halted(Exception):
    """The server stops: what is not written down yet is done by the next one."""


class RunContext:
    """A database that is asked until it answers, the app, and what tells that it is time to stop."""

    def __init__(
        self,
        database: Database,
        calls: AsgiClient,
        *,
        resolve: Resolve,
        identify: Identify,
        most_lines: int,
        calendar: Calendar,
    ) -> None:
        """Nothing is begun yet."""
        self.database = database
        self.calls = calls
        self.resolve = resolve
        self.identify = identify
        self.most_lines = most_lines
        self.calendar = calendar
        self._halt = asyncio.Event()
        self._rooms: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(AT_ONCE))

    @property
    def halted(self) -> bool:
        """Whether nothing new is to be begun."""
        return self._halt.is_set()

    def halt(self) -> None:
        self._halt.set()

    def go_on(self) -> None:
        """Raises Halted if it is time to stop."""
        if self.halted:
            raise Halted

    def room(self, model: str) -> asyncio.Semaphore:
        """For the lines of a model."""
        return self._rooms[model]

    async def pause(self, seconds: float) -> None:
        """For so long, or until it is time to stop."""
        try:
            async with asyncio.timeout(seconds):
                await self._halt.wait()
        except TimeoutError:
            return

    async def read(self, do: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``Database.read``, however often it takes. Raises Halted."""
        return await self._insist(lambda: self.database.read(do, *args, **kwargs))

    async def write(self, do: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """``Database.write``, however often it takes. Raises Halted."""
        return await self._insist(lambda: self.database.write(do, *args, **kwargs))

    async def _insist(self, do: Callable[[], Awaitable[T]]) -> T:
        pause = 0.5
        while True:
            try:
                return await do()
            except StorageError:
                self.go_on()
                await self.pause(pause)
                pause = min(_LONGEST_PAUSE, 2 * pause)
