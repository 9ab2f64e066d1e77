"""A phase may take so long, or as long as it uses the processor."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cohabit.runtime.workers.time_limits import LOAD, LOOKS, PROGRESS, Limit, kept
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


async def test_work_done_in_time_is_within_its_limit() -> None:
    working = Working(0.0)
    working.done.set()
    assert await working.kept(progress=False)


async def test_limit_without_progress_is_not_extended_by_processor_time() -> None:
    assert not await Working(0.0, 5.0, 9.0).kept(progress=False)


async def test_with_progress_the_time_begins_anew() -> None:
    assert await Working(*map(float, range(5 * LOOKS))).kept(progress=True)


async def test_answering_pings_is_no_progress() -> None:
    pings = (1.0 + look * PROGRESS / 2 / LOOKS for look in range(2 * LOOKS))
    assert not await Working(0.0, *pings).kept(progress=True)


async def test_time_counts_from_the_last_progress_and_not_from_the_window_it_was_seen_in(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A load that hangs after its imports kept others out for two whole windows."""
    used = [0.0, 2.0, *[2.0] * 3 * LOOKS]
    clock, looks = 0.0, 0

    class Loop:
        def time(self) -> float:
            return clock

    async def passes(seconds: float) -> None:
        nonlocal clock
        clock += seconds
        raise TimeoutError

    class Process:
        def cpu_seconds(self) -> float:
            nonlocal looks
            looks += 1
            return used[looks - 1]

    @asynccontextmanager
    async def timeout(seconds: float) -> AsyncIterator[None]:
        await passes(seconds)
        yield

    monkeypatch.setattr(asyncio, "timeout", timeout)
    monkeypatch.setattr(asyncio, "get_running_loop", Loop)
    assert not await kept(LOAD, Process(), asyncio.Event())  # type: ignore[arg-type]  # a stand-in
    assert clock <= LOAD.seconds * (1 + 2 / LOOKS)
