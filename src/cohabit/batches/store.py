"""Files and batches as the api sees them: one door, so that what is slow to import stays behind it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from shutil import disk_usage

from starlette.types import ASGIApp

from cohabit.access.keys import Principal
from cohabit.batches import files, records
from cohabit.batches.asgi_client import AsgiClient
from cohabit.batches.calendar import Calendar
from cohabit.batches.database import Database
from cohabit.batches.errors import Left, StorageError, TooMuch, Trouble
from cohabit.batches.leader import Leader
from cohabit.batches.lines import Resolve
from cohabit.batches.run_context import Identify, RunContext
from cohabit.batches.runner import BatchRunner
from cohabit.config.model import BatchesConfig
from cohabit.runtime.supervision import TaskSupervisor
from cohabit.schemas.batches import Batch, BatchList, BatchRequest
from cohabit.schemas.files import FileList, FileObject, FileUpload

_WRITING = 2  # uploads at once; one thread writes, and the next piece should be there when it has written
_RESERVE = 256 << 20  # bytes of the disk that uploads leave free, or a quarter of it if that is less


class BatchStore:
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
        context = RunContext(
            self._database,
            AsgiClient(app),
            resolve=resolve,
            identify=identify,
            most_lines=config.max_lines,
            calendar=calendar,
        )
        self._turns = asyncio.Semaphore(_WRITING)
        self._runner = BatchRunner(context, Leader(self._database))
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

    def upload(self, principal: Principal, filename: str, gone: Callable[[], bool]) -> "Upload":
        """A file that is about to be sent. ``gone`` tells whether its client has hung up."""
        return Upload(
            self._database, self._config, principal, filename, turns=self._turns, gone=gone, clock=self._clock
        )

    async def file(self, principal: Principal, file_id: str) -> FileObject:
        """Raises Missing, StorageError."""
        return await self._database.read(files.get, principal.owner_filter, file_id)

    async def files(
        self, principal: Principal, *, purpose: str | None, after: str | None, limit: int, newest: bool
    ) -> FileList:
        """One page. Raises StorageError."""
        return await self._database.read(
            files.page, principal.owner_filter, purpose=purpose, after=after, limit=limit, newest=newest
        )

    async def content(self, principal: Principal, file_id: str) -> AsyncIterator[bytes]:
        """All of a file, in pieces. Raises Missing if it is erased meanwhile, StorageError."""
        place = -1
        while True:
            place, piece = await self._database.read(files.piece, principal.owner_filter, file_id, place)
            if not piece:
                return
            yield piece

    async def erase_file(self, principal: Principal, file_id: str) -> None:
        """For good. Raises Missing, Conflict, StorageError."""
        await self._database.write(files.hide, principal.owner_filter, file_id)
        await self._erase()

    async def create(self, principal: Principal, asked: BatchRequest) -> Batch:
        """Take a batch. From now on it is not lost. Raises Missing, Conflict, StorageError."""
        made = await self._database.write(records.create, principal, asked, self._clock(), self._config.retention)
        self._runner.poke()
        return made

    async def batch(self, principal: Principal, batch_id: str) -> Batch:
        """Raises Missing, StorageError."""
        return await self._database.read(records.get, principal.owner_filter, batch_id)

    async def batches(self, principal: Principal, *, after: str | None, limit: int) -> BatchList:
        """One page. Raises StorageError."""
        return await self._database.read(records.page, principal.owner_filter, after=after, limit=limit)

    async def cancel(self, principal: Principal, batch_id: str) -> Batch:
        """No more of it is begun. Raises Missing, Conflict, StorageError."""
        found = await self._database.write(records.cancel, principal.owner_filter, batch_id, self._clock())
        self._runner.poke()
        return found

    async def erase_batch(self, principal: Principal, batch_id: str) -> None:
        """With what it made. Raises Missing, Conflict, StorageError."""
        await self._database.write(records.hide, principal.owner_filter, batch_id)
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
    """A file that is being sent: pieces of it are written as they come, so that it is never held whole.

    A few uploads write at the same time, and the others wait for their turn. Of a crowd that has hung up meanwhile
    nothing is written.
    """

    def __init__(
        self,
        database: Database,
        config: BatchesConfig,
        principal: Principal,
        filename: str,
        *,
        turns: asyncio.Semaphore,
        gone: Callable[[], bool],
        clock: Callable[[], float],
    ) -> None:
        """Nothing is written yet."""
        self._database = database
        self._config = config
        self._owner = principal.name
        self._filename = filename
        self._turns = turns
        self._gone = gone
        self._clock = clock
        self._id: str | None = None
        self._most = config.max_file
        self._says = f"a file may have at most {config.max_file >> 20} MiB; send it in several files"
        self._rest = bytearray()
        self._pieces = 0
        self.size = 0

    async def write(self, data: bytes) -> None:
        """More of it. Raises TooMuch, StorageError, Left."""
        self.size += len(data)
        self._check()
        self._rest += data
        while len(self._rest) >= files.PIECE:
            await self._put(bytes(self._rest[: files.PIECE]))
            del self._rest[: files.PIECE]

    async def seal(self, upload: FileUpload) -> FileObject:
        """That was all. Raises TooMuch, StorageError, Left."""
        if self._rest or self._id is None:
            await self._put(bytes(self._rest))
        assert self._id is not None
        return await self._database.write(files.seal, self._id, upload, self._clock(), self._config.retention)

    def discard(self) -> None:
        """It will not come to its end. What cannot be erased now is when a server starts."""
        self._rest.clear()
        if self._id is not None:
            self._database.drop(self._id)

    def _check(self) -> None:
        if self.size > self._most:
            raise TooMuch(self._says)

    async def _put(self, data: bytes) -> None:
        async with self._turns:
            if self._gone():
                raise Left
            file_id = self._id or await self._begin()
            path = self._database.path
            if path is not None and nearly_full(path):
                raise StorageError(Trouble.FULL)
            await self._database.write(files.append, file_id, self._pieces, data)
            self._pieces += 1

    async def _begin(self) -> str:
        """Raises TooMuch."""
        all_files = self._config.max_stored
        stored, file_id = await self._database.write(files.begin_beside, self._owner, self._filename, self._clock())
        self._id = file_id
        room = all_files - stored
        if room < self._most:
            taken = min(stored, all_files) >> 20
            self._most = room
            self._says = (
                f"{taken} of the {all_files >> 20} MiB are taken that all files may have together; delete some"
            )
            self._check()
        return file_id
