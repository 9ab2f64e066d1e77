"""Of all servers that share a database, one runs its batches; the others only take them."""

from pathlib import Path

from sqlalchemy import Connection, text

from cohabit.batches.database import Database

_LOCK = 0x636F6861626974  # "cohabit": the number of the lock in PostgreSQL


class Leader:
    """Held until it is resigned or the process ends, however it ends."""

    def __init__(self, database: Database) -> None:
        """Nothing is held yet."""
        self._database = database
        self._file = None if database.path is None else _Lock(database.path)

    async def leads(self) -> bool:
        """Whether it is us; to be asked again and again, since PostgreSQL's lock ends with its connection.

        Raises StorageError.
        """
        if self._file is not None:
            return self._file.held()
        return await self._database.write(_advisory)

    def resign(self) -> None:
        """Let another one. PostgreSQL's ends with the database's connection."""
        if self._file is not None:
            self._file.release()


class _Lock:
    """A file beside the database; the system releases it when the process dies."""

    def __init__(self, database: Path) -> None:
        from filelock import FileLock

        self._lock = FileLock(database.with_name(f"{database.name}.lock"), thread_local=False, mode=0o600)

    def held(self) -> bool:
        from filelock import Timeout

        if not self._lock.is_locked:
            try:
                self._lock.acquire(timeout=0)
            except (Timeout, OSError):
                return False
        return True

    def release(self) -> None:
        self._lock.release(force=True)


def _advisory(connection: Connection) -> bool:
    """PostgreSQL's lock of this session. Source: its manual, 9.28.10, "Advisory Lock Functions"."""
    if not connection.info.get(_LOCK):  # kept with the connection, as the lock is
        connection.info[_LOCK] = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _LOCK}))
    return bool(connection.info[_LOCK])
