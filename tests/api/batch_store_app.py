"""An app with a store of files and batches in a folder of the test's own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from starlette.applications import Starlette

from cohabit.access.keys import Principal
from cohabit.api.app import keeps
from cohabit.batches import files
from cohabit.batches.store import BatchStore
from cohabit.config.model import BatchesConfig
from cohabit.runtime.supervision import TaskSupervisor
from cohabit.schemas.batches import ENDED
from harness import PATIENCE


@dataclass(frozen=True, slots=True)
class Stored:
    """Both sides of it."""

    app: Starlette
    http: httpx2.AsyncClient
    store: BatchStore
    who: Principal

    async def bytes(self) -> int:
        """What all files have together."""
        return await self.store._database.read(files.stored)

    async def ended(self, batch_id: str) -> dict[str, Any]:
        """A batch once nothing more comes of it."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found: dict[str, Any] = (await self.http.get(f"/v1/batches/{batch_id}")).json()
                if found["status"] in ENDED:
                    return found
                await asyncio.sleep(0.005)


def raises(task: str, error: BaseException) -> None:
    """Nothing of a test fails unnoticed."""
    raise AssertionError(task) from error


@asynccontextmanager
async def opened(app: Starlette, http: httpx2.AsyncClient, folder: Path) -> AsyncIterator[Stored]:
    """Until the block ends; files of up to 4 MiB, 8 MiB together."""
    config = BatchesConfig(max_file=4 << 20, max_stored=8 << 20, max_lines=100)
    url = f"sqlite:///{folder / 'batches.db'}"
    known = {"gpt-4o-mini": "llm"}
    tasks = TaskSupervisor(raises)
    store = BatchStore(
        config, url, app, resolve=lambda name: known.get(name, name), identify=lambda _: {}, tasks=tasks
    )
    opening: asyncio.Future[BatchStore] = asyncio.get_running_loop().create_future()
    opening.set_result(store)
    keeps(app, opening)  # type: ignore[arg-type]  # the app of the fixture is ours
    yield Stored(app, http, store, Principal("", sees_all=True))
    store.halt()
    await store.close()
