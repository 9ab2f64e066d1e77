"""A database in a folder of the test's own, an app that answers lines as the test wants, and what runs batches."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from batches.runner_bench import Answering, Bench
from cohabit.batches.database import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(f"sqlite:///{tmp_path / 'state' / 'batches.db'}")
    yield opened
    await opened.close()


@pytest.fixture
def app() -> Answering:
    return Answering()


@pytest.fixture
async def bench(database: Database, app: Answering) -> AsyncIterator[Bench]:
    made = Bench(database, app)
    yield made
    await made.stop()
