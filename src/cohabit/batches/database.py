"""One thread that speaks to the database, in transactions that either happened or did not.

SQLite by default, PostgreSQL by URL. One thread is enough: what limits a batch is the device. It keeps the event
loop free, and on SQLite there is but one writer anyway.
"""

import asyncio
import errno
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import structlog
from sqlalchemy import Connection, Engine, RootTransaction, create_engine, event, insert, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from cohabit.batches import erasing, files, tables
from cohabit.batches.errors import StorageError, Trouble
from cohabit.runtime.executors import Executor

log = structlog.get_logger()

P = ParamSpec("P")
T = TypeVar("T")

_BUSY_SECONDS = 5.0  # how long a locked database is waited for
_CONNECT_SECONDS = 5
_VACUUM = 256  # pages of 4 KiB
_DROPPED = 500  # files that are hidden by one statement
_WRITES = "cohabit_writes"


class OtherVersion(SQLAlchemyError):
    """The tables were made by another version of this program, and are left alone."""


class Database:
    """Runs functions that take a Connection first, one after the other, each in a transaction of its own.

    Nothing is opened until the first of them, and a database that could not be opened or was lost is tried anew by
    the next.
    """

    def __init__(self, url: str) -> None:
        """``url`` is SQLAlchemy's: ``sqlite:///PATH`` or ``postgresql://...``. Raises ValueError for no URL."""
        self.url = parsed(url)
        self._engine: Engine | None = None
        self._thread = Executor("batches", 1)
        self._eraser = erasing.Eraser(self._erase)
        self._told: str | None = None

    @property
    def path(self) -> Path | None:
        """The file, of SQLite."""
        return Path(self.url.database or "") if self.url.get_backend_name() == "sqlite" else None

    async def read(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``work`` finds. Raises StorageError, and what it raises."""
        return await self._run(False, work, *args, **kwargs)

    async def write(self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``work`` says; all of what it did is there for good, or nothing. Raises like ``read``."""
        return await self._run(True, work, *args, **kwargs)

    def drop(self, file_id: str) -> None:
        """Hide a file that was not sent to its end, and erase it soon."""
        self._eraser.drop(file_id)

    async def erase(self) -> None:
        """Erase what is hidden, give its room back, and leave no trace of it in SQLite's log. Raises StorageError."""
        await self._eraser.erase()

    async def close(self) -> None:
        """After what was begun."""
        await self._eraser.close()
        await self._in_thread(self._dispose)
        self._thread.close()

    async def _erase(self, dropped: list[str]) -> None:
        """In steps, between which others have their turn."""
        for begin in range(0, len(dropped), _DROPPED):
            await self.write(files.discard, dropped[begin : begin + _DROPPED])
        while await self.write(erasing.step):
            continue
        # Even if that was nothing: requests that were answered stand in the log too, and a server that was killed may
        # have erased what it no longer overwrote.
        if self.path is not None:
            while await self._in_thread(self._vacuum):
                continue

    async def _run(
        self, writes: bool, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        def run() -> T:
            try:
                with self._opened().connect() as connection, _transaction(connection, writes=writes):
                    found = work(connection, *args, **kwargs)
            except SQLAlchemyError as error:
                raise self._trouble(error) from None  # its text could hold what was stored
            self._told = None
            return found

        return await self._in_thread(run)

    async def _in_thread(self, do: Callable[[], T]) -> T:
        # Shielded: whoever waited may have left, what was begun is carried through.
        return await asyncio.shield(self._thread.run(do))

    def _opened(self) -> Engine:
        if self._engine is None:
            engine = _engine(self.url)
            try:
                with engine.connect() as connection, _transaction(connection, writes=True):
                    _prepare(connection)
            except BaseException:
                engine.dispose()
                raise
            self._engine = engine
        return self._engine

    def _vacuum(self) -> bool:
        """Give some room back; whether there is more."""
        try:
            connection = self._opened().raw_connection()
            try:
                # A part, or the log would take as much room as is given back; and as a script, since ``execute``
                # would go through a pragma but once, which gives back a single page.
                (before,) = connection.execute("PRAGMA freelist_count").fetchone()
                connection.executescript(f"PRAGMA incremental_vacuum({_VACUUM})")
                (free,) = connection.execute("PRAGMA freelist_count").fetchone()
                if 0 < free < before:
                    return True
                connection.executescript("PRAGMA wal_checkpoint(TRUNCATE)")
                return False
            finally:
                connection.close()
        except (SQLAlchemyError, sqlite3.Error) as error:
            wrapped = error if isinstance(error, SQLAlchemyError) else DBAPIError(None, None, error)
            raise self._trouble(wrapped) from None

    def _dispose(self) -> None:
        if self._engine is not None:
            self._engine.dispose()

    def _trouble(self, error: SQLAlchemyError) -> StorageError:
        """For clients in one of our sentences; the log has the driver's word for it, once."""
        trouble = trouble_of(error)
        origin = getattr(error, "orig", None)
        why = getattr(origin, "sqlite_errorname", None) or getattr(origin, "sqlstate", None)
        why = why or type(origin or error).__name__
        if self._told != why:
            self._told = why
            log.error("the database of batches failed", trouble=trouble, why=why, at=self.url.render_as_string())
        return StorageError(trouble)


def parsed(url: str) -> URL:
    """With the driver that is used here. Raises ValueError, which names what is wrong and not the URL."""
    try:
        found = make_url(url)
    except SQLAlchemyError:
        raise ValueError("it is not the URL of a database") from None
    drivers = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}
    if found.drivername not in drivers:
        raise ValueError("only sqlite:// and postgresql:// are known")
    return found.set(drivername=drivers[found.drivername])


def trouble_of(error: SQLAlchemyError) -> Trouble:
    """What it means. Sources: SQLite's result codes, PostgreSQL's appendix A."""
    origin = error.orig if isinstance(error, DBAPIError) else None
    code = getattr(origin, "sqlite_errorcode", 0) & 0xFF
    state = getattr(origin, "sqlstate", None) or ""
    if code == sqlite3.SQLITE_FULL or state.startswith("53") or getattr(origin, "errno", 0) == errno.ENOSPC:
        return Trouble.FULL
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED} or state in {"40001", "40P01", "55P03"}:
        return Trouble.BUSY
    return Trouble.UNREACHABLE


def _engine(url: URL) -> Engine:
    # hide_parameters: what is stored is nobody's to read in an error.
    how: dict[str, Any] = {"hide_parameters": True, "poolclass": QueuePool, "pool_size": 1, "max_overflow": 0}
    if url.get_backend_name() != "sqlite":
        arguments = {"connect_timeout": _CONNECT_SECONDS, "application_name": "cohabit"}
        return create_engine(url, pool_pre_ping=True, connect_args=arguments, **how)
    engine = create_engine(url, connect_args={"timeout": _BUSY_SECONDS, "isolation_level": None}, **how)
    _private(Path(url.database or ""))
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _private(path: Path) -> None:
    """For nobody else's eyes; SQLite makes the files beside it alike."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
    except OSError as error:
        raise DBAPIError(None, None, error) from None


def _set_up(connection: sqlite3.Connection, _record: object) -> None:
    for pragma in (
        "auto_vacuum = INCREMENTAL",  # first: it holds for a database that is still empty
        "journal_mode = WAL",
        "synchronous = FULL",  # what was accepted outlives a power failure
        "foreign_keys = ON",
        "secure_delete = ON",  # what is erased is overwritten
        "temp_store = MEMORY",  # what it sorts, or needs to undo a statement, is not in /tmp
        "wal_autocheckpoint = 256",  # pages: the log stays small, however much is written or erased
    ):
        connection.execute(f"PRAGMA {pragma}")


def _transaction(connection: Connection, *, writes: bool) -> RootTransaction:
    return connection.execution_options(**{_WRITES: writes}).begin()


def _begin(connection: Connection) -> None:
    """In place of the driver's, which begins late and lets a reader fail where it turns writer."""
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _prepare(connection: Connection) -> None:
    tables.metadata.create_all(connection)
    version = connection.scalar(select(tables.about.c.version))
    if version is None:
        connection.execute(insert(tables.about), {"version": tables.VERSION})
    elif version != tables.VERSION:
        raise OtherVersion
