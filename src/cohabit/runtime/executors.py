"""Threads for work that blocks, a pool for each kind of work.

asyncio's default executor is one small pool for everything that asks for a thread: what strangers send would wait
there beside the reading of the device and the start of a worker, and a few slow pieces of it would stop both. So
nothing here uses that pool. How much runs at once is decided by each kind of work alone.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Executor:
    """Up to ``threads`` threads, which begin with the first work there is and end with ``close``."""

    def __init__(self, name: str, threads: int) -> None:
        """``name`` is what its threads are called."""
        self.name = name
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``work`` returns or raises. Who stops waiting takes back work that has not begun."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._threads, self.name)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, lambda: work(*args, **kwargs))

    def close(self) -> None:
        """Drop what has not begun. What has begun goes on to its end, which is not waited for."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


DEVICE = Executor("device", 1)
"""Readings of the device."""

FETCHING = Executor("fetching", 256)
"""Fetching and converting weights, for minutes. A model whose weights are there must not wait for others that fetch
theirs, so there is a thread for each: the models of a server are fewer."""

LOOKUPS = Executor("lookups", 8)
"""Host names. A slow name server holds up nothing else."""

PARSING = Executor("parsing", 2)
"""What clients sent, where it takes long."""

IMPORTS = Executor("imports", 1)
"""Large libraries that only some servers need."""


def close_all() -> None:
    """At the end of a server."""
    for executor in (DEVICE, FETCHING, LOOKUPS, PARSING, IMPORTS):
        executor.close()
