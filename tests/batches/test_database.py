"""Transactions that either happened or did not, and what is said where they could not."""

import sqlite3
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Connection, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from structlog.testing import capture_logs

from batches.runner_bench import NOW
from cohabit.batches import database as module
from cohabit.batches import files, tables
from cohabit.batches.database import Database, parsed, trouble_of
from cohabit.batches.errors import StorageError, Trouble


async def test_database_file_is_private(database: Database) -> None:
    await database.read(files.stored)
    path = database.path
    assert path is not None
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    for each in path.parent.iterdir():
        assert stat.S_IMODE(each.stat().st_mode) == 0o600, each.name
    assert path.with_name("batches.db-wal").exists()


@pytest.mark.parametrize(
    ("pragma", "value"),
    [
        ("journal_mode", "wal"),
        ("synchronous", 2),
        ("foreign_keys", 1),
        ("secure_delete", 1),
        ("auto_vacuum", 2),
        ("temp_store", 2),
    ],
)
async def test_sqlite_settings_are_durable(pragma: str, value: object, database: Database) -> None:
    assert await database.read(lambda connection: connection.scalar(text(f"PRAGMA {pragma}"))) == value


async def test_transaction_is_atomic(database: Database) -> None:
    def half(connection: Connection) -> None:
        files.begin(connection, "ann", "in.jsonl", NOW)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await database.write(half)
    assert await database.read(lambda connection: connection.scalar(select(tables.files.c.id))) is None


async def test_error_does_not_quote_stored_data(database: Database) -> None:
    def twice(connection: Connection) -> None:
        row = {"file_id": "kanarienvogel", "number": 0, "data": b"kanarienvogel"}
        connection.execute(insert(tables.chunks), row)

    with capture_logs() as logged, pytest.raises(StorageError) as raised:
        await database.write(twice)
    assert raised.value.trouble is Trouble.UNREACHABLE
    assert "kanarienvogel" not in f"{raised.value!r}{logged}"
    assert raised.value.__cause__ is None
    assert [line["why"] for line in logged] == ["SQLITE_CONSTRAINT_FOREIGNKEY"]


async def test_full_disk_is_logged_once_and_keeps_stored_data(database: Database) -> None:
    file_id = await database.write(files.begin, "ann", "in.jsonl", NOW)
    pages = await database.read(lambda connection: connection.scalar(text("PRAGMA page_count")))
    await database.read(lambda connection: connection.execute(text(f"PRAGMA max_page_count = {pages}")))
    with capture_logs() as logged:
        for _ in range(3):
            with pytest.raises(StorageError) as raised:
                await database.write(files.append, file_id, 0, b"x" * 100_000)
            assert raised.value.trouble is Trouble.FULL
    assert [line["why"] for line in logged] == ["SQLITE_FULL"]
    await database.read(lambda connection: connection.execute(text("PRAGMA max_page_count = 1000000")))
    await database.write(files.append, file_id, 0, b"x" * 100_000)
    assert await database.read(files.stored) == 100_000


async def test_locked_database_is_busy(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.05)
    await database.read(files.stored)
    assert database.path is not None
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError) as raised:
        await database.write(files.begin, "ann", "in.jsonl", NOW)
    assert raised.value.trouble is Trouble.BUSY
    assert await database.read(files.stored) == 0, "which needs no lock"
    other.rollback()
    other.close()
    await database.write(files.begin, "ann", "in.jsonl", NOW)


async def test_missing_folder_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("in its place")
    database = Database(f"sqlite:///{tmp_path}/state/batches.db")
    for _ in range(2):
        with pytest.raises(StorageError) as raised:
            await database.read(files.stored)
        assert raised.value.trouble is Trouble.UNREACHABLE
    (tmp_path / "state").unlink()
    assert await database.read(files.stored) == 0
    await database.close()


async def test_tables_of_another_version_are_not_touched(database: Database) -> None:
    await database.write(lambda connection: connection.execute(update(tables.about).values(version=99)))
    again = Database(f"sqlite:///{database.path}")
    with capture_logs() as logged, pytest.raises(StorageError):
        await again.read(files.stored)
    assert logged[0]["why"] == "OtherVersion"
    await again.close()


async def test_deleted_data_are_overwritten_on_disk(database: Database) -> None:
    file_id = await database.write(files.begin, "ann", "in.jsonl", NOW)
    await database.write(files.append, file_id, 0, b"kanarienvogel" * 50_000)
    assert database.path is not None
    folder = database.path.parent
    assert any(b"kanarienvogel" in each.read_bytes() for each in folder.iterdir())
    before = sum(each.stat().st_size for each in folder.iterdir())
    await database.write(files.discard, [file_id])
    await database.erase()
    assert not any(b"kanarienvogel" in each.read_bytes() for each in folder.iterdir())
    assert sum(each.stat().st_size for each in folder.iterdir()) < before / 2


@pytest.mark.parametrize("url", ["mysql://x/y", "nonsense", "sqlite+aiosqlite:///x", "postgresql+asyncpg://x/y"])
def test_unsupported_urls_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"URL|known"):
        parsed(url)


@pytest.mark.parametrize(
    ("origin", "trouble"),
    [
        (SimpleNamespace(sqlite_errorcode=sqlite3.SQLITE_FULL), Trouble.FULL),
        (SimpleNamespace(sqlite_errorcode=sqlite3.SQLITE_BUSY_SNAPSHOT), Trouble.BUSY),
        (SimpleNamespace(sqlite_errorcode=sqlite3.SQLITE_IOERR_WRITE), Trouble.UNREACHABLE),
        (SimpleNamespace(sqlstate="53100"), Trouble.FULL),
        (SimpleNamespace(sqlstate="55P03"), Trouble.BUSY),
        (SimpleNamespace(sqlstate="57P01"), Trouble.UNREACHABLE),
        (SimpleNamespace(sqlstate=None), Trouble.UNREACHABLE),
    ],
)
def test_driver_errors_are_classified(origin: object, trouble: Trouble) -> None:
    error = IntegrityError(None, None, Exception())
    error.orig = origin  # type: ignore[assignment]  # drivers differ in their errors
    assert trouble_of(error) is trouble


def test_other_errors_are_not_classified() -> None:
    assert trouble_of(SQLAlchemyError()) is Trouble.UNREACHABLE
    assert trouble_of(DBAPIError(None, None, OSError(28, "No space left on device"))) is Trouble.FULL
