"""Brings workers up, puts them to sleep, wakes, trims and ends them; each word ends in one event."""

import asyncio
import errno
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from msgspec.structs import replace

from cohabit.core.events import Event, Slept, Trimmed, WorkerExited, WorkerReady
from cohabit.core.snapshot import Alert, Severity
from cohabit.protocol import messages
from cohabit.protocol.engine import Chunk
from cohabit.protocol.spec import Device, ModelSpec
from cohabit.runtime.executors import FETCHING
from cohabit.runtime.supervision import error_text, supervise, where
from cohabit.runtime.workers import time_limits
from cohabit.runtime.workers.handle import WorkerHandle
from cohabit.runtime.workers.process import WorkerProcess
from cohabit.runtime.workers.time_limits import Limit
from cohabit.sources import Cancelled, SourceError

log = structlog.get_logger()

ResponseMessage = Chunk | messages.Finished | messages.End
"""What a worker sends about a request."""

DESCRIPTOR_PAUSE = 1.0  # seconds between two tries to start a worker while no file descriptor is free


@dataclass(frozen=True, slots=True)
class Launch:
    """What it takes to start a model's worker.

    ``resolve`` fetches its files, in a thread, until it is told that they are not wanted. Raises SourceError.
    """

    resolve: Callable[[Cancelled], ModelSpec]
    threads: int
    nice: int = 0  # to the other workers, where they share the processor's cores
    max_stall: float = 120.0  # seconds that its runs may give no sign of progress


class Supervisor:
    """Owns the workers: it alone changes ``workers``, which has every one that has not been reaped, by its id."""

    def __init__(
        self,
        launches: Mapping[str, Launch],
        device: Device,
        *,
        on_message: Callable[[WorkerHandle, ResponseMessage], None],
        on_worker_lost: Callable[[WorkerHandle], frozenset[int]],
        post: Callable[[Event], None],
        fail: Callable[[str, BaseException], None],
    ) -> None:
        """``launches`` by model.

        ``on_worker_lost`` returns the requests of which clients have a part. ``fail`` is called with an error after
        which the end of a worker may never be posted.
        """
        self.workers: dict[int, WorkerHandle] = {}
        self._launches = launches
        self._device = device
        self._on_message = on_message
        self._on_worker_lost = on_worker_lost
        self._post = post
        self._fail = fail
        self._starved: set[str] = set()  # models whose worker waits for a file descriptor
        self._newest = 0  # worker; their numbers ascend
        self._last_lines: dict[str, list[str]] = {}  # by model, of its last worker that has ended

    def processes(self) -> dict[int, WorkerProcess]:
        """By worker, for those that have one."""
        return {id_: worker.process for id_, worker in self.workers.items() if worker.process is not None}

    def log_of(self, model: str) -> Sequence[str]:
        """The last lines that a model's worker printed, or the one before if it has no process now."""
        for worker in self.workers.values():
            if worker.model == model and worker.process is not None:
                return worker.process.log_tail
        return self._last_lines.get(model, ())

    def spawn(self, model: str, worker_id: int) -> None:
        """Start a process, which imports what it needs and waits."""
        self._newest = worker_id
        worker = self.workers[worker_id] = WorkerHandle(worker_id, model, time.monotonic())
        supervise(f"worker of {model}", self._live(worker), lambda error: self._fail("worker", error))

    def start(self, model: str, worker_id: int, *, keep_copy: bool) -> None:
        """Load the model, in the process that waits or else a new one; with a copy if it is to keep one."""
        if worker_id > self._newest:
            self.spawn(model, worker_id)
        worker = self.workers.get(worker_id)
        if worker is None:
            return  # it has died while it waited, and the core is about to hear of that
        worker.began, worker.to_load, worker.keep_copy = time.monotonic(), True, keep_copy
        if worker.process is not None:
            self._load(worker)

    def alerts(self) -> Iterator[Alert]:
        """One for each model whose worker waits for a file descriptor."""
        for model in self._starved:
            text = f"no file descriptor is free to start a worker for {model}; raise the limit of open files"
            yield Alert("no_file_descriptor", Severity.CRITICAL, text, model)

    def sleep(self, worker_id: int) -> None:
        """Let the model go and keep the process."""
        self._send(self.workers[worker_id], messages.Sleep(), time_limits.SLEEP)

    def wake(self, worker_id: int) -> None:
        """Bring the model of a sleeping process back."""
        worker = self.workers[worker_id]
        worker.began = time.monotonic()
        self._send(worker, messages.Wake(), time_limits.WAKE)

    def trim(self, worker_id: int) -> None:
        """Let an idle worker give back what its allocators keep."""
        self._send(self.workers[worker_id], messages.Trim(), time_limits.TRIM)

    def stop(self, worker_id: int, *, kill: bool) -> None:
        """End a process. One that was never ready has nothing to hand over and is killed."""
        worker = self.workers[worker_id]
        worker.stop_told = time.monotonic()
        if worker.process is None:
            return  # still fetching, which ends as it sees that it is no longer wanted
        if kill or not worker.loaded:
            worker.process.kill()
        else:
            self._watch(worker, "stop", worker.process.stop())

    def cancel(self, worker_id: int, request: int) -> None:
        """Let the engine know that the client of a running request is gone."""
        worker = self.workers.get(worker_id)
        if worker is not None:
            worker.send(messages.CancelRun(request))

    def kill_all(self) -> None:
        """Kill every worker, at once."""
        for worker_id in list(self.workers):
            self.stop(worker_id, kill=True)

    def end_stalled(self, worker_id: int, seconds: float, blamed: int | None) -> None:
        """End a worker whose runs make no progress. The request that is blamed, if any, is not tried again."""
        worker = self.workers[worker_id]
        log.warning("worker makes no progress", model=worker.model, seconds=seconds, blamed_request=blamed)
        worker.blamed = frozenset() if blamed is None else frozenset({blamed})
        self._give_up(worker, messages.LoadFailed(f"its runs made no progress for {seconds:g} s (max_stall)"))

    def _watch(self, worker: WorkerHandle, doing: str, coroutine: Coroutine[Any, Any, None]) -> None:
        """Do something about a worker. If that fails, the worker is ended, since nobody else would do it."""

        def failed(error: BaseException) -> None:
            self._give_up(worker, messages.LoadFailed(_lost_control(error)))

        supervise(f"{doing} of a worker of {worker.model}", coroutine, failed)

    def _load(self, worker: WorkerHandle) -> None:
        assert worker.spec is not None
        worker.send(messages.Load(replace(worker.spec, keep_copy=worker.keep_copy), self._device))
        if worker.greeted:
            worker.done.set()  # with its imports, or that is part of the load now
            self._limit(worker, time_limits.LOAD)

    def _send(self, worker: WorkerHandle, message: messages.ToWorker, limit: Limit) -> None:
        worker.send(message)
        self._limit(worker, limit)

    def _limit(self, worker: WorkerHandle, limit: Limit) -> None:
        """From now on."""
        worker.done = asyncio.Event()
        if worker.process is not None:
            self._watch(worker, "time limit", self._mind(worker, worker.process, limit, worker.done))

    async def _mind(self, worker: WorkerHandle, process: WorkerProcess, limit: Limit, done: asyncio.Event) -> None:
        if not await time_limits.kept(limit, process, done):
            self._give_up(worker, messages.LoadFailed(f"it did not {limit.doing} within {limit.seconds:g} s"))

    def _give_up(self, worker: WorkerHandle, why: messages.LoadFailed) -> None:
        log.warning("worker failed and is killed", model=worker.model, detail=why.detail)
        worker.failed = why
        if worker.process is not None:
            worker.process.kill()

    async def _live(self, worker: WorkerHandle) -> None:
        detail, reaped = "", False
        try:
            await self._bring_up(worker)
            if worker.process is not None and worker.spec is not None:
                log.info("starting worker", model=worker.model, pid=worker.process.pid)
                self._limit(worker, time_limits.FIRST_WORD)
                if worker.to_load:
                    self._load(worker)
                else:
                    worker.send(messages.Prepare(worker.spec.engine, self._device))
                if worker.unwanted():  # told while it was spawned
                    worker.process.kill()
                detail = await worker.process.exited()
                reaped = True
        except SourceError as error:
            detail = str(error)
        except OSError as error:
            detail = f"its worker could not be started: {error.strerror or error}"
        except Exception as error:
            log.error("worker cannot be supervised", model=worker.model, error=error_text(error), where=where(error))  # noqa: TRY400 - its text may quote a client
            detail = _lost_control(error)
        if worker.process is not None and not reaped:
            worker.process.kill()  # or it would outlive the event that says it has ended
        self._ended(worker, worker.failed or messages.LoadFailed(detail))

    async def _bring_up(self, worker: WorkerHandle) -> None:
        """Fetch its files and start its process, unless it is told to stop meanwhile.

        Tries again for as long as no file descriptor is free: that is no failure of the model. Raises SourceError,
        OSError.
        """
        launch = self._launches[worker.model]
        while not worker.unwanted():
            try:
                worker.spec = worker.spec or await FETCHING.run(launch.resolve, worker.unwanted)
                if not worker.unwanted():
                    worker.process = await WorkerProcess.spawn(
                        worker.model,
                        launch.threads,
                        lambda message: self._received(worker, message),
                        nice=launch.nice,
                    )
                break
            except (SourceError, OSError) as error:
                if not _lacks_descriptor(error):
                    raise
                if worker.model not in self._starved:
                    self._starved.add(worker.model)
                    log.warning("no file descriptor is free to start a worker; trying again", model=worker.model)
            await asyncio.sleep(DESCRIPTOR_PAUSE)
        self._starved.discard(worker.model)

    def _ended(self, worker: WorkerHandle, why: messages.LoadFailed) -> None:
        worker.done.set()
        self._starved.discard(worker.model)
        del self.workers[worker.id]
        tail = worker.process.log_tail if worker.process is not None else []
        self._last_lines[worker.model] = tail
        if not worker.unwanted():
            log.warning("worker ended unexpectedly", model=worker.model, detail=why.detail, last_lines=tail[-5:])
        self._post(
            WorkerExited(
                worker.id,
                seconds=time.monotonic() - worker.stop_told if worker.stop_told is not None else 0.0,
                sent=self._on_worker_lost(worker),
                detail=why.detail,
                out_of_memory=why.out_of_memory,
                permanent=why.permanent,
                blamed=worker.blamed,
                exceeded=worker.exceeded,
            )
        )

    def _received(self, worker: WorkerHandle, message: messages.FromWorker) -> None:
        match message:
            case Chunk() | messages.Finished() | messages.End():
                worker.responses += 1
                self._on_message(worker, message)
            case messages.Hello(version):
                worker.done.set()
                worker.greeted = True
                if version == messages.PROTOCOL_VERSION:
                    self._limit(worker, time_limits.LOAD if worker.to_load else time_limits.PREPARE)
                else:
                    why = f"its worker speaks version {version} of the protocol, not {messages.PROTOCOL_VERSION}"
                    self._give_up(worker, messages.LoadFailed(why, permanent=True))
            case messages.ImportsDone():
                if not worker.to_load:
                    worker.done.set()
            case messages.Loaded(resident, load_peak, seconds, copy, bare):
                worker.done.set()
                worker.ready_at = time.monotonic()
                worker.loaded = True
                if worker.process is not None:
                    worker.process.hush()
                log.info("worker ready", model=worker.model, seconds=round(seconds, 2))
                self._post(WorkerReady(worker.id, resident, load_peak, seconds, copy, bare))
            case messages.SleepDone(held, seconds):
                worker.done.set()
                log.info("worker asleep", model=worker.model, held=held, seconds=round(seconds, 2))
                self._post(Slept(worker.id, held, seconds))
            case messages.TrimDone():
                worker.done.set()
                self._post(Trimmed(worker.id))
            case messages.LoadFailed():
                self._give_up(worker, message)
            case messages.Pong(steps):
                worker.steps = steps


def _lost_control(error: BaseException) -> str:
    return f"the server failed in supervising its worker ({type(error).__name__}); the server's log has more"


def _lacks_descriptor(error: BaseException) -> bool:
    """Whether it says that this process, or the whole system, has as many files open as may be."""
    cause = error.__cause__ if isinstance(error, SourceError) else error
    return isinstance(cause, OSError) and cause.errno in {errno.EMFILE, errno.ENFILE}
