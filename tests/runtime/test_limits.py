"""A phase may take so long, or as long as it uses the processor."""

import asyncio

from cohabit.runtime.workers.limits import PROGRESS, Limit, kept
from harness import PATIENCE


class Working:
    """A process whose processor time is written down; at the end of it ``done`` is set."""

    def __init__(self, *used: float) -> None:
        self.done = asyncio.Event()
        self._used = iter(used)

    def cpu_seconds(self) -> float:
        """The next that was written down."""
        found = next(self._used, None)
        if found is None:
            self.done.set()
            return 1e9
        return found

    async def kept(self, *, progress: bool) -> bool:
        """Within a limit that passes at once."""
        limit = Limit("work", 0.001, progress)
        return await asyncio.wait_for(kept(limit, self, self.done), PATIENCE)  # type: ignore[arg-type]  # a stand-in


async def test_what_is_done_in_time_is_kept() -> None:
    working = Working(0.0)
    working.done.set()
    assert await working.kept(progress=False)


async def test_what_is_not_is_not_however_hard_it_works() -> None:
    assert not await Working(0.0, 5.0, 9.0).kept(progress=False)


async def test_with_progress_the_time_begins_anew() -> None:
    assert await Working(0.0, 1.0, 2.0, 3.0).kept(progress=True)


async def test_answering_pings_is_no_progress() -> None:
    assert not await Working(0.0, 1.0, 1.0 + PROGRESS / 2, 9.0).kept(progress=True)
