"""Many who want something erased share one pass."""

import asyncio
from pathlib import Path

import pytest

from batches.runner_bench import ANN, NOW
from cohabit.batches import files
from cohabit.batches.database import Database
from cohabit.batches.erasing import Eraser
from cohabit.batches.errors import StorageError, Trouble
from cohabit.schemas.files import FileUpload


class Passes:
    """What an eraser was told to hide in each pass, which ends when the test lets it."""

    def __init__(self) -> None:
        self.dropped: list[list[str]] = []
        self.gate = asyncio.Semaphore(0)
        self.failing = 0
        self.eraser = Eraser(self._erase)

    async def _erase(self, dropped: list[str]) -> None:
        self.dropped.append(dropped)
        await self.gate.acquire()
        if self.failing:
            self.failing -= 1
            raise StorageError(Trouble.FULL)


@pytest.fixture
async def passes() -> Passes:
    return Passes()


async def settle() -> None:
    """Let all tasks run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_deletions_during_a_pass_share_the_next_pass(passes: Passes) -> None:
    passes.eraser.drop("first")
    await settle()
    for number in range(100):
        passes.eraser.drop(f"{number}")
    waiting = [asyncio.ensure_future(passes.eraser.erase()) for _ in range(3)]
    await settle()
    assert passes.dropped == [["first"]]
    passes.gate.release()
    await settle()
    assert passes.dropped[1:] == [[f"{number}" for number in range(100)]]
    assert not any(task.done() for task in waiting), "the pass under way may have gone past what they hid"
    passes.gate.release()
    await asyncio.gather(*waiting)
    assert len(passes.dropped) == 2


async def test_failed_pass_is_logged_and_repeated(passes: Passes) -> None:
    passes.failing = 2
    passes.eraser.drop("a")
    await settle()
    for _ in range(3):
        passes.gate.release()
    with pytest.raises(StorageError):
        await passes.eraser.erase()
    await passes.eraser.erase()
    assert passes.dropped == [["a"], ["a"], ["a"]]


async def test_cancelled_waiter_does_not_stop_the_pass(passes: Passes) -> None:
    waiting = asyncio.ensure_future(passes.eraser.erase())
    await settle()
    waiting.cancel()
    await settle()
    other = asyncio.ensure_future(passes.eraser.erase())
    await settle()
    assert len(passes.dropped) == 1
    passes.gate.release()
    passes.gate.release()
    await other
    assert len(passes.dropped) == 2


async def test_shutdown_does_not_wait_for_a_pass(passes: Passes) -> None:
    for name in "ab":
        passes.eraser.drop(name)
        await settle()
    await passes.eraser.close()
    assert passes.dropped == [["a"]]


async def test_an_upload_comes_to_its_end_while_others_are_erased(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'state' / 'batches.db'}")
    for number in range(20):
        file_id = await database.write(files.begin, ANN.name, f"{number}", NOW)
        await database.write(files.append, file_id, 0, bytes(files.PIECE))
        database.drop(file_id)
    erased = asyncio.ensure_future(database.erase())
    honest = await database.write(files.begin, ANN.name, "honest", NOW)
    for number in range(3):
        await database.write(files.append, honest, number, bytes(files.PIECE))
    await database.write(files.seal, honest, FileUpload(purpose="batch"), NOW, 1e9)
    assert not erased.done(), "each step of it lets others have their turn"
    await erased
    assert await database.read(files.stored) == 3 * files.PIECE
    path = database.path
    assert path is not None
    assert path.stat().st_size < 6 * files.PIECE, "the room of the others has been given back"
    await database.close()
