"""Where files and batches are kept, and when that is opened."""

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from cohabit.batches.store import BatchStore
from cohabit.config import ConfigError
from cohabit.config.model import BatchesConfig
from cohabit.runtime.supervision import TaskSupervisor
from cohabit.server import batch_store
from cohabit.server.batch_store import VARIABLE, Opening, database_url, opening

STORE = cast("BatchStore", object())


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("COHABIT_HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


def test_the_environment_goes_before_the_config_and_that_before_the_state_folder(
    monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    assert database_url(BatchesConfig()) == f"sqlite:///{home}/state/batches.db"
    config = BatchesConfig(database="sqlite:////elsewhere.db")
    assert database_url(config) == "sqlite:////elsewhere.db"
    monkeypatch.setenv(VARIABLE, "postgresql://me:secret@host/name")
    assert database_url(config) == "postgresql://me:secret@host/name"


@pytest.mark.parametrize("url", ["mysql://x", "postgresql://me:secret@host:port/x", "secret", "sqlite+other:///x"])
def test_a_url_of_the_environment_that_cannot_be(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, url)
    with pytest.raises(ConfigError, match=VARIABLE) as raised:
        database_url(BatchesConfig())
    assert "secret" not in str(raised.value)


def test_postgresql_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_store, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'cohabit\[postgres\]'"):
        database_url(BatchesConfig(database="postgresql://me@host/name"))


async def test_opened_by_whoever_wants_it_first_and_once() -> None:
    begun = 0

    async def opens() -> BatchStore:
        nonlocal begun
        begun += 1
        await asyncio.sleep(0)
        return STORE

    made = Opening(opens)
    assert await made.opened() is None
    impatient = asyncio.ensure_future(made)
    await asyncio.sleep(0)
    impatient.cancel()
    assert await made is await made is await made.opened() is STORE
    assert begun == 1


@pytest.mark.parametrize("there", [False, True])
async def test_at_once_where_there_are_batches_from_before(
    there: bool, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def opens(*_: object, **_more: object) -> BatchStore:
        return STORE

    monkeypatch.setattr(batch_store, "_open_store", opens)
    if there:
        (home / "state").mkdir()
        (home / "state" / "batches.db").touch()
    nothing: Any = None
    made = opening(BatchesConfig(), nothing, nothing, None, TaskSupervisor(nothing))
    await asyncio.sleep(0)  # in which what is begun at once begins
    assert (await made.opened() is STORE) == there


async def test_store_that_could_not_be_opened_is_opened_by_the_next_who_wants_it() -> None:
    tries = 0

    async def opens() -> BatchStore:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise OSError("no room")
        return STORE

    made = Opening(opens)
    for _ in range(2):
        with pytest.raises(OSError, match="no room"):
            await made
        assert await made.opened() is None
    assert await made is STORE
