"""Where files and batches are kept, and the opening of it."""

import asyncio
import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cohabit.config.errors import ConfigError
from cohabit.config.model import BatchesConfig
from cohabit.config.paths import batches_file

if TYPE_CHECKING:
    from cohabit.api.access import Lock
    from cohabit.api.app import App
    from cohabit.batches.store import Store
    from cohabit.runtime.service import Service

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
    return url


async def open_store(config: BatchesConfig, app: "App", service: "Service", lock: "Lock | None") -> "Store":
    """Begin to run batches. In the background, since it imports what takes a while."""
    from cohabit.access.keys import Key
    from cohabit.api.errors import NotFound
    from cohabit.api.models import find

    def resolve(name: str) -> str | None:
        try:
            return find(service, name).name
        except NotFound:
            return None

    def identify(owner: str) -> dict[str, Any] | None:
        if lock is None:
            return {}
        # A batch that was made when there were no keys goes on: whoever made it could do everything.
        key = lock.keyring.named(owner) if owner else Key(name="", digest="", created=0)
        return None if key is None else {"key": key}

    store = await asyncio.to_thread(_store)
    return store(config, database_url(config), app, resolve=resolve, identify=identify)


def _store() -> type["Store"]:
    from cohabit.batches.store import Store

    return Store
