"""Brings workers up, puts them to sleep, wakes, trims and ends them; each word ends in one event."""

import asyncio
import errno
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from msgspec.structs import replace

from cohabit.core.events import Event, Slept, Trimmed, WorkerExited, WorkerReady
from cohabit.core.snapshot import Alert, Severity
from cohabit.protocol import messages
from cohabit.protocol.engine import Chunk
from cohabit.protocol.spec import Device, ModelSpec
from cohabit.runtime.executors import FETCHING
from cohabit.runtime.supervision import said, supervise, where
from cohabit.runtime.workers import limits
from cohabit.runtime.workers.limits import Limit
from cohabit.runtime.workers.process import WorkerProcess
from cohabit.sources import Cancelled, SourceError

if TYPE_CHECKING:
    from cohabit.runtime.inflight import InFlightRequests

log = structlog.get_logger()


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


@dataclass(slots=True)
class WorkerHandle:
    """A started worker, with or without its process yet."""

    model: str
    began: float  # to come in: when it was told to load, later to wake
    spec: ModelSpec | None = None  # once its files are there
    process: WorkerProcess | None = None
    to_load: bool = False  # it has been told to; else it imports, and waits for room
    keep_copy: bool = False
    greeted: bool = False
    ready_at: float | None = None
    stop_told: float | None = None
    failed: messages.LoadFailed | None = None  # why it is ended unasked
    blamed: frozenset[int] = frozenset()  # requests that are why
    told: int = 0  # messages about answers
    steps: int = 0  # of its engine, as last told
    exceeded: int = 0  # bytes it held when it was ended for holding more than it may
    loaded: bool = False  # it has been, so answers may be on their way, even asleep
    done: asyncio.Event = field(default_factory=asyncio.Event)  # with what it was told last

    @property
    def signs(self) -> int:
        """Of progress, so far."""
        return self.told + self.steps

    def is_within_a_limit(self) -> bool:
        """Whether it is at something that takes its time, and has not taken too long."""
        return self.failed is None and not self.unwanted() and not self.done.is_set()

    def unwanted(self) -> bool:
        """Whether it has been told to stop."""
        return self.stop_told is not None

    def end_for_memory(self, held: int, limit: int) -> None:
        """End it at once, since it holds more bytes than it may. Called from any thread."""
        if self.process is None or self.exceeded:
            return
        detail = f"it held {held >> 20} MiB, more than the {limit >> 20} MiB that it may hold at this moment"
        self.exceeded, self.failed = held, messages.LoadFailed(detail, out_of_memory=True)
        log.warning("worker holds too much memory and is killed", model=self.model, detail=detail)
        self.process.kill()

    def send(self, message: messages.ToWorker) -> None:
        """Send it a message, if there is a process to hear it. Raises FrameTooLarge."""
        if self.process is not None:
            self.process.send(message)

    def coming_in(self, *, since: float) -> float:
        """Seconds after ``since`` during which it was last being loaded or woken."""
        return 0.0 if self.ready_at is None else max(0.0, self.ready_at - max(self.began, since))


class Supervisor:
    """What is done about processes. Owns ``workers``, which has every one that has not been reaped."""

    def __init__(
        self,
        workers: dict[int, WorkerHandle],
        launches: Mapping[str, Launch],
        device: Device,
        *,
        answers: "InFlightRequests",
        post: Callable[[Event], None],
        fail: Callable[[str, BaseException], None],
    ) -> None:
        """Before the first worker. ``fail`` is called with an error after which a worker's end cannot be told."""
        self._workers = workers
        self._launches = launches
        self._device = device
        self._answers = answers
        self._post = post
        self._fail = fail
        self._starved: set[str] = set()  # models whose worker waits for a file descriptor
        self._newest = 0  # worker; their numbers ascend
        self.last_lines: dict[str, list[str]] = {}  # by model, of its last worker that has ended

    def spawn(self, model: str, worker_id: int) -> None:
        """Start a process, which imports what it needs and waits."""
        self._newest = worker_id
        worker = self._workers[worker_id] = WorkerHandle(model, time.monotonic())
        supervise(f"worker of {model}", self._live(worker_id, worker), lambda error: self._fail("worker", error))

    def start(self, model: str, worker_id: int, *, keep_copy: bool) -> None:
        """Load the model, in the process that waits or else a new one; with a copy if it is to keep one."""
        if worker_id > self._newest:
            self.spawn(model, worker_id)
        worker = self._workers.get(worker_id)
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
        self._tell(self._workers[worker_id], messages.Sleep(), limits.SLEEP)

    def wake(self, worker_id: int) -> None:
        """Bring the model of a sleeping process back."""
        worker = self._workers[worker_id]
        worker.began = time.monotonic()
        self._tell(worker, messages.Wake(), limits.WAKE)

    def trim(self, worker_id: int) -> None:
        """Let an idle worker give back what its allocators keep."""
        self._tell(self._workers[worker_id], messages.Trim(), limits.TRIM)

    def stop(self, worker_id: int, *, kill: bool) -> None:
        """End a process. One that was never ready has nothing to hand over and is killed."""
        worker = self._workers[worker_id]
        worker.stop_told = time.monotonic()
        if worker.process is None:
            return  # still fetching, which ends as it sees that it is no longer wanted
        if kill or not worker.loaded:
            worker.process.kill()
        else:
            self._watch(worker, "stop", worker.process.stop())

    def end_stalled(self, worker_id: int, seconds: float, blamed: int | None) -> None:
        """End a worker whose runs make no progress. The request that is blamed, if any, is not tried again."""
        worker = self._workers[worker_id]
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
            self._limit(worker, limits.LOAD)

    def _tell(self, worker: WorkerHandle, message: messages.ToWorker, limit: Limit) -> None:
        worker.send(message)
        self._limit(worker, limit)

    def _limit(self, worker: WorkerHandle, limit: Limit) -> None:
        """From now on."""
        worker.done = asyncio.Event()
        if worker.process is not None:
            self._watch(worker, "time limit", self._mind(worker, worker.process, limit, worker.done))

    async def _mind(self, worker: WorkerHandle, process: WorkerProcess, limit: Limit, done: asyncio.Event) -> None:
        if not await limits.kept(limit, process, done):
            self._give_up(worker, messages.LoadFailed(f"it did not {limit.doing} within {limit.seconds:g} s"))

    def _give_up(self, worker: WorkerHandle, why: messages.LoadFailed) -> None:
        log.warning("worker failed and is killed", model=worker.model, detail=why.detail)
        worker.failed = why
        if worker.process is not None:
            worker.process.kill()

    async def _live(self, worker_id: int, worker: WorkerHandle) -> None:
        detail, reaped = "", False
        try:
            await self._bring_up(worker_id, worker)
            if worker.process is not None and worker.spec is not None:
                log.info("starting worker", model=worker.model, pid=worker.process.pid)
                self._limit(worker, limits.FIRST_WORD)
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
            log.error("worker cannot be supervised", model=worker.model, error=said(error), where=where(error))  # noqa: TRY400 - its text may quote a client
            detail = _lost_control(error)
        if worker.process is not None and not reaped:
            worker.process.kill()  # or it would outlive the event that says it has ended
        self._ended(worker_id, worker, worker.failed or messages.LoadFailed(detail))

    async def _bring_up(self, worker_id: int, worker: WorkerHandle) -> None:
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
                        lambda message: self._heard(worker_id, worker, message),
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

    def _ended(self, worker_id: int, worker: WorkerHandle, why: messages.LoadFailed) -> None:
        worker.done.set()
        self._starved.discard(worker.model)
        del self._workers[worker_id]
        tail = worker.process.log_tail if worker.process is not None else []
        self.last_lines[worker.model] = tail
        if not worker.unwanted():
            log.warning("worker ended unexpectedly", model=worker.model, detail=why.detail, last_lines=tail[-5:])
        self._post(
            WorkerExited(
                worker_id,
                seconds=time.monotonic() - worker.stop_told if worker.stop_told is not None else 0.0,
                sent=self._answers.lost(worker_id, worker.model),
                detail=why.detail,
                out_of_memory=why.out_of_memory,
                permanent=why.permanent,
                blamed=worker.blamed,
                exceeded=worker.exceeded,
            )
        )

    def _heard(self, worker_id: int, worker: WorkerHandle, message: messages.FromWorker) -> None:
        match message:
            case Chunk() | messages.Finished() | messages.End():
                worker.told += 1
                self._answers.said(worker_id, worker.model, message)
            case messages.Hello(version):
                worker.done.set()
                worker.greeted = True
                if version == messages.PROTOCOL_VERSION:
                    self._limit(worker, limits.LOAD if worker.to_load else limits.PREPARE)
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
                self._post(WorkerReady(worker_id, resident, load_peak, seconds, copy, bare))
            case messages.SleepDone(held, seconds):
                worker.done.set()
                log.info("worker asleep", model=worker.model, held=held, seconds=round(seconds, 2))
                self._post(Slept(worker_id, held, seconds))
            case messages.TrimDone():
                worker.done.set()
                self._post(Trimmed(worker_id))
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
