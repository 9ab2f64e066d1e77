"""Files and batches as the api sees them: one door, so that what is slow to import stays behind it."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from shutil import disk_usage

from starlette.types import ASGIApp

from cohabit.batches import files, records
from cohabit.batches.calendar import Calendar
from cohabit.batches.calls import Caller
from cohabit.batches.database import Database
from cohabit.batches.errors import StorageError, TooMuch, Trouble
from cohabit.batches.leader import Leader
from cohabit.batches.lines import Resolve
from cohabit.batches.means import Identify, Means
from cohabit.batches.runner import Runner
from cohabit.batches.who import Who
from cohabit.config.model import BatchesConfig
from cohabit.openai.batches import Batch, BatchList, BatchRequest
from cohabit.openai.files import FileList, FileObject, FileUpload
from cohabit.runtime.supervision import TaskSupervisor

_RESERVE = 256 << 20  # bytes of the disk that uploads leave free, or a quarter of it if that is less


class Store:
    """Takes files and batches, and runs them."""

    def __init__(
        self,
        config: BatchesConfig,
        url: str,
        app: ASGIApp,
        *,
        resolve: Resolve,
        identify: Identify,
        tasks: TaskSupervisor,
        calendar: Calendar | None = None,
    ) -> None:
        """``url`` is the database's. Raises ValueError for one that cannot be. Needs a running event loop."""
        self._config = config
        self._database = Database(url)
        calendar = calendar or Calendar()
        self._clock = calendar.now
        means = Means(
            self._database,
            Caller(app),
            resolve=resolve,
            identify=identify,
            most_lines=config.max_lines,
            calendar=calendar,
        )
        self._runner = Runner(means, Leader(self._database))
        self._running = tasks.keep("batches", self._runner.run)

    @property
    def most_upload(self) -> int:
        """Bytes of one file."""
        return self._config.max_file

    def halt(self) -> None:
        """Begin no more lines."""
        self._runner.halt()

    async def close(self) -> None:
        """After ``halt``: wait for what was begun, which ends with the models at the latest."""
        await self._running
        await self._database.close()

    async def upload(self, who: Who, filename: str) -> "Upload":
        """A file that is about to be sent. Raises StorageError, TooMuch."""
        room = self._config.max_stored - await self._database.read(files.stored)
        if room <= 0:
            raise TooMuch(
                f"the files here have {self._config.max_stored >> 20} MiB together, and that is as much as may be; "
                "delete some"
            )
        now = self._clock()
        file_id = await self._database.write(files.begin, who.name, filename, now)
        return Upload(self._database, file_id, min(room, self._config.max_file), self._config.retention, self._clock)

    async def file(self, who: Who, file_id: str) -> FileObject:
        """Raises Missing, StorageError."""
        return await self._database.read(files.get, who.sees, file_id)

    async def files(self, who: Who, *, purpose: str | None, after: str | None, limit: int, newest: bool) -> FileList:
        """One page. Raises StorageError."""
        return await self._database.read(
            files.page, who.sees, purpose=purpose, after=after, limit=limit, newest=newest
        )

    async def content(self, who: Who, file_id: str) -> AsyncIterator[bytes]:
        """All of a file, in pieces. Raises Missing if it is erased meanwhile, StorageError."""
        place = -1
        while True:
            place, piece = await self._database.read(files.piece, who.sees, file_id, place)
            if not piece:
                return
            yield piece

    async def erase_file(self, who: Who, file_id: str) -> None:
        """For good. Raises Missing, Conflict, StorageError."""
        await self._database.write(files.hide, who.sees, file_id)
        await self._erase()

    async def create(self, who: Who, asked: BatchRequest) -> Batch:
        """Take a batch. From now on it is not lost. Raises Missing, Conflict, StorageError."""
        made = await self._database.write(records.create, who, asked, self._clock(), self._config.retention)
        self._runner.poke()
        return made

    async def batch(self, who: Who, batch_id: str) -> Batch:
        """Raises Missing, StorageError."""
        return await self._database.read(records.get, who.sees, batch_id)

    async def batches(self, who: Who, *, after: str | None, limit: int) -> BatchList:
        """One page. Raises StorageError."""
        return await self._database.read(records.page, who.sees, after=after, limit=limit)

    async def cancel(self, who: Who, batch_id: str) -> Batch:
        """No more of it is begun. Raises Missing, Conflict, StorageError."""
        found = await self._database.write(records.cancel, who.sees, batch_id, self._clock())
        self._runner.poke()
        return found

    async def erase_batch(self, who: Who, batch_id: str) -> None:
        """With what it made. Raises Missing, Conflict, StorageError."""
        await self._database.write(records.hide, who.sees, batch_id)
        await self._erase()

    async def _erase(self) -> None:
        try:
            await self._database.erase()
        except StorageError:
            return  # nobody sees it any more, why has been logged, and it is tried again within the hour


def nearly_full(path: Path) -> bool:
    """Whether the disk has only as much left as answers need that were promised, and the erasing of files."""
    disk = disk_usage(path.parent)
    return disk.free < min(_RESERVE, disk.total // 4)


class Upload:
    """A file that is being sent: pieces of it are written as they come, so that it is never held whole."""

    def __init__(
        self, database: Database, file_id: str, most: int, retention: float, clock: Callable[[], float]
    ) -> None:
        """``most`` bytes are taken."""
        self._database = database
        self._id = file_id
        self._most = most
        self._retention = retention
        self._clock = clock
        self._rest = bytearray()
        self._pieces = 0
        self.size = 0

    async def write(self, data: bytes) -> None:
        """More of it. Raises TooMuch, StorageError."""
        self.size += len(data)
        if self.size > self._most:
            raise TooMuch(f"at most {self._most >> 20} MiB are taken; send it in several files")
        self._rest += data
        while len(self._rest) >= files.PIECE:
            await self._put(bytes(self._rest[: files.PIECE]))
            del self._rest[: files.PIECE]

    async def seal(self, upload: FileUpload) -> FileObject:
        """That was all. Raises StorageError."""
        if self._rest:
            await self._put(bytes(self._rest))
        return await self._database.write(files.seal, self._id, upload, self._clock(), self._retention)

    async def discard(self) -> None:
        """It will not come to its end. What cannot be erased now is when a server starts."""
        try:
            await self._database.write(files.discard, self._id)
            await self._database.erase()
        except StorageError:
            return

    async def _put(self, data: bytes) -> None:
        path = self._database.path
        if path is not None and nearly_full(path):
            raise StorageError(Trouble.FULL)
        await self._database.write(files.append, self._id, self._pieces, data)
        self._pieces += 1
