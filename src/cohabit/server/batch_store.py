"""Where files and batches are kept, and the opening of it."""

import asyncio
import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cohabit.config import ConfigError
from cohabit.config.model import BatchesConfig
from cohabit.config.paths import batches_file

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

    from cohabit.api.app import App
    from cohabit.api.middleware.auth import AuthConfig
    from cohabit.batches.store import BatchStore
    from cohabit.runtime.service import Service
    from cohabit.runtime.supervision import TaskSupervisor

VARIABLE = "COHABIT_BATCHES_DATABASE"


def database_url(config: BatchesConfig) -> str:
    """Of the environment, the config, or the file in the state folder. Raises ConfigError."""
    url = config.database
    if given := os.environ.get(VARIABLE):
        try:
            url = BatchesConfig.model_validate({"database": given}).database
        except ValidationError as error:
            raise ConfigError(f"{VARIABLE}: {error.errors()[0]['msg']}") from None
    if url is None:
        return f"sqlite:///{batches_file()}"
    if url.startswith("postgresql:") and find_spec("psycopg") is None:
        raise ConfigError("batches.database: PostgreSQL needs psycopg: pip install 'cohabit[postgres]'")
    from cohabit.batches.database import parsed

    try:
        parsed(url)
    except ValueError as error:
        raise ConfigError(f"batches.database: {error}") from None
    return url


class Opening:
    """A store that its first waiter opens: most servers need none, and its library is large."""

    def __init__(self, opens: "Callable[[], Coroutine[Any, Any, BatchStore]]") -> None:
        """``opens`` does it."""
        self._open = opens
        self._task: asyncio.Task[BatchStore] | None = None

    def __await__(self) -> "Generator[Any, None, BatchStore]":
        """The store. If one waiter is cancelled, the others still get it."""
        return asyncio.shield(self.begin()).__await__()

    def begin(self) -> "asyncio.Task[BatchStore]":
        """Open it now, unless that is under way or done."""
        if self._task is None or (self._task.done() and self._failed(self._task)):
            from cohabit.runtime.supervision import awaited

            self._task = awaited(self._open())
        return self._task

    async def opened(self) -> "BatchStore | None":
        """The store if it is open or being opened; None if nobody wanted it, or if it could not be opened."""
        if self._task is None:
            return None
        await asyncio.wait([self._task])
        return None if self._failed(self._task) else self._task.result()

    async def open(self) -> None:
        """Until it is open. Raises what opening raises."""
        await self

    @staticmethod
    def _failed(task: "asyncio.Task[BatchStore]") -> bool:
        return task.cancelled() or task.exception() is not None


def opening(
    config: BatchesConfig, app: "App", service: "Service", auth: "AuthConfig | None", tasks: "TaskSupervisor"
) -> Opening:
    """At once where there may be batches from before, which are to go on."""
    url = database_url(config)
    made = Opening(lambda: _open_store(config, url, app, service, auth=auth, tasks=tasks))
    if not url.startswith("sqlite:") or Path(url.removeprefix("sqlite:///")).exists():
        tasks.keep("opening of batches", made.open)
    return made


async def _open_store(
    config: BatchesConfig,
    url: str,
    app: "App",
    service: "Service",
    *,
    auth: "AuthConfig | None",
    tasks: "TaskSupervisor",
) -> "BatchStore":
    from cohabit.access.keys import Key
    from cohabit.api.errors import NotFound
    from cohabit.api.routes.models import find
    from cohabit.runtime.executors import IMPORTS

    def resolve(name: str) -> str | None:
        try:
            return find(service, name).name
        except NotFound:
            return None

    def identify(owner: str) -> dict[str, Any] | None:
        if auth is None:
            return {}
        # A batch that was made when there were no keys goes on: whoever made it could do everything.
        key = auth.keyring.named(owner) if owner else Key(name="", digest="", created=0)
        return None if key is None else {"key": key}

    store = await IMPORTS.run(_store)
    return store(config, url, app, resolve=resolve, identify=identify, tasks=tasks)


def _store() -> type["BatchStore"]:
    from cohabit.batches.store import BatchStore

    return BatchStore
