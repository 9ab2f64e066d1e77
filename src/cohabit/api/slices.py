"""Long work in the event loop, cut into slices, so that others get their turn between two of them."""

import asyncio
import time

SECONDS = 0.01
"""Of the thread's processor time. A step of the loop may take 50 ms; the last piece of a slice adds to this."""


class Slices:
    """Of one piece of work, which says where it may be interrupted."""

    def __init__(self) -> None:
        """The first slice begins."""
        self._began = time.thread_time()

    async def cut(self) -> None:
        """Interrupt the work here, if this slice has lasted for long enough."""
        if time.thread_time() - self._began >= SECONDS:
            await asyncio.sleep(0)
            self._began = time.thread_time()
