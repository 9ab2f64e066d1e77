"""Carries the core's commands out on real processes; every one ends in the event that ``core.events`` names."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from cohabit.core.commands import (
    Cancel,
    Command,
    Dispatch,
    Halt,
    Reject,
    SetTimer,
    SleepWorker,
    StartWorker,
    StopWorker,
    TrimWorker,
    WakeWorker,
)
from cohabit.core.events import Event, RequestFailed, RequestFinished, WorkerExited, WorkerReady
from cohabit.core.reasons import Rejection, RejectReason
from cohabit.protocol import messages
from cohabit.protocol.engine import Chunk, ItemError, Request
from cohabit.protocol.spec import Device, ModelSpec
from cohabit.runtime.requests import Answer, Call, CallFailed
from cohabit.runtime.workers.process import WorkerProcess
from cohabit.sources import SourceError

log = structlog.get_logger()

FIRST_WORD_SECONDS = 60.0  # from the spawn to Hello


@dataclass(frozen=True, slots=True)
class Launch:
    """What it takes to start a model's worker. ``resolve`` fetches its files (in a thread, may raise SourceError)."""

    resolve: Callable[[], ModelSpec]
    threads: int


@dataclass(slots=True)
class Open:
    """A request whose answer has not ended."""

    call: Call
    answer: Answer
    worker: int | None = None
    error: ItemError | None = None
    finished: bool = False  # the engine is done; chunks may still be on their way


@dataclass(slots=True)
class Worker:
    """A started worker, with or without its process yet."""

    model: str
    began: float
    process: WorkerProcess | None = None
    ready_at: float | None = None
    stop_told: float | None = None
    load_failed: messages.LoadFailed | None = None
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    loaded: bool = False

    def unwanted(self) -> bool:
        """Whether it has been told to stop."""
        return self.stop_told is not None


class Watcher(Protocol):
    """Is told what does not pass the core."""

    def answered(self, model: str, finished: messages.Finished) -> None:
        """A worker is done with a request."""


class Effects:
    """Executes commands as tasks. Owned by the control loop's thread."""

    def __init__(
        self,
        launches: Mapping[str, Launch],
        device: Device,
        *,
        post: Callable[[Event], None],
        rested: Callable[[], None],
        halt: Callable[[], None],
        watcher: Watcher,
    ) -> None:
        """``rested`` is called when memory may have come free, ``halt`` when everything has ended."""
        self.workers: dict[int, Worker] = {}
        self.open: dict[int, Open] = {}
        self._launches = launches
        self._device = device
        self._post = post
        self._rested = rested
        self._halt = halt
        self._watcher = watcher
        self._tasks: set[asyncio.Task[None]] = set()

    def processes(self) -> dict[int, WorkerProcess]:
        """The process of every worker that has one."""
        return {worker_id: worker.process for worker_id, worker in self.workers.items() if worker.process is not None}

    def execute(self, command: Command) -> None:
        """Begin to carry a command out. Never blocks, never raises."""
        match command:
            case StartWorker(model, worker):
                self.workers[worker] = Worker(model, time.monotonic())
                self._spawn(self._start(worker, self.workers[worker]))
            case StopWorker(model, worker, cause, why, kill):
                log.info("stopping worker", model=model, cause=cause, why=why)
                self._stop(self.workers[worker], kill)
            case Dispatch(_, worker, requests):
                self._dispatch(worker, requests)
            case Cancel(request, worker):
                self._cancel(request, worker)
            case Reject(request, rejection):
                self._reject(request, rejection)
            case Halt():
                self._halt()
            case SleepWorker() | WakeWorker() | TrimWorker():
                raise NotImplementedError
            case SetTimer():
                raise AssertionError("the control loop keeps the timer")

    def forget(self, request: int) -> None:
        """Its client is gone: whatever still comes of the answer goes nowhere."""
        entry = self.open.pop(request, None)
        if entry is not None and entry.finished and entry.worker is not None:
            self._send(entry.worker, messages.Cancel(request))  # lets the worker drop what it keeps for it

    def taken(self, request: int, chunks: int, size: int) -> None:
        """A client has taken chunks: its worker may send as much more."""
        entry = self.open.get(request)
        if entry is not None and entry.worker is not None:
            self._send(entry.worker, messages.Credit(request, chunks, size))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _send(self, worker_id: int, message: messages.ToWorker) -> None:
        worker = self.workers.get(worker_id)
        if worker is not None and worker.process is not None:
            worker.process.send(message)

    # workers

    async def _start(self, worker_id: int, worker: Worker) -> None:
        launch = self._launches[worker.model]
        detail, permanent = "", False
        try:
            spec = await asyncio.to_thread(launch.resolve)
            if not worker.unwanted():
                worker.process = await WorkerProcess.spawn(
                    worker.model, launch.threads, lambda message: self._heard(worker_id, worker, message)
                )
                log.info("starting worker", model=worker.model, pid=worker.process.pid)
                self._spawn(self._mind_first_word(worker))
                worker.process.send(messages.Load(spec, self._device))
                if worker.unwanted():  # told while it was spawned
                    worker.process.kill()
                detail = await worker.process.exited()
        except SourceError as error:
            detail = str(error)
        except OSError as error:
            detail = f"its worker could not be started: {error.strerror or error}"
        if worker.load_failed is not None:
            detail, permanent = worker.load_failed.detail, worker.load_failed.permanent
        self._ended(worker_id, worker, detail, permanent)

    async def _mind_first_word(self, worker: Worker) -> None:
        try:
            async with asyncio.timeout(FIRST_WORD_SECONDS):
                await worker.heard.wait()
        except TimeoutError:
            log.warning("worker said nothing and is killed", model=worker.model, seconds=FIRST_WORD_SECONDS)
            if worker.process is not None:
                worker.process.kill()

    def _ended(self, worker_id: int, worker: Worker, detail: str, permanent: bool) -> None:
        worker.heard.set()
        del self.workers[worker_id]
        if not worker.unwanted():
            tail = worker.process.log_tail if worker.process is not None else []
            log.warning("worker ended unasked", model=worker.model, detail=detail, last_lines=tail[-5:])
        sent = frozenset(
            request for request, entry in self.open.items() if entry.worker == worker_id and entry.answer.sent
        )
        for request, entry in list(self.open.items()):
            if entry.worker == worker_id:
                entry.worker = None
                if entry.finished:  # out of the core's hands; the rest of its answer died with the worker
                    self._fail(request, Rejection(RejectReason.WORKER_DIED, f"{worker.model}: {detail}", 1.0))
        self._post(
            WorkerExited(
                worker_id,
                seconds=time.monotonic() - worker.stop_told if worker.stop_told is not None else 0.0,
                sent=sent,
                detail=detail,
                out_of_memory=worker.load_failed is not None and worker.load_failed.out_of_memory,
                permanent=permanent,
            )
        )
        self._rested()

    def _stop(self, worker: Worker, kill: bool) -> None:
        worker.stop_told = time.monotonic()
        if worker.process is None:
            return  # still fetching: ``_start`` sees that it is no longer wanted
        if kill or not worker.loaded:
            worker.process.kill()
        else:
            self._spawn(worker.process.stop())

    # requests

    def _dispatch(self, worker_id: int, requests: tuple[int, ...]) -> None:
        worker = self.workers[worker_id]
        batch = []
        now = time.monotonic()
        for request in requests:
            entry = self.open.get(request)
            if entry is None:  # its client left in this very turn of the loop; RequestCancelled is on its way
                self._post(RequestFinished(request, worker_id, 0.0, 0))
                continue
            entry.worker = worker_id
            entry.answer.restart()
            entry.answer.dispatched = now
            if worker.ready_at is not None:
                entry.answer.load_seconds = max(0.0, worker.ready_at - max(worker.began, entry.answer.arrived))
            batch.append(Request(request, entry.call.task, entry.call.body, entry.call.blobs))
        if not batch:
            return
        try:
            self._send(worker_id, messages.Run(batch))
        except messages.FrameTooLarge:
            for item in batch:
                error = ItemError(item.id, "the request is too large", status=413, code="request_too_large")
                self.open[item.id].error = error
                self._post(RequestFailed(item.id, worker_id, sent=False))

    def _cancel(self, request: int, worker_id: int) -> None:
        self._send(worker_id, messages.Cancel(request))

    def _reject(self, request: int, rejection: Rejection) -> None:
        self._fail(request, rejection)

    def _fail(self, request: int, rejection: Rejection) -> None:
        entry = self.open.pop(request, None)
        if entry is None:
            return
        entry.answer.finished = time.monotonic()
        if rejection.reason is RejectReason.ENGINE and entry.error is not None:
            entry.answer.fail(CallFailed(error=entry.error))
        else:
            entry.answer.fail(CallFailed(rejection=rejection))

    # what workers say

    def _heard(self, worker_id: int, worker: Worker, message: messages.FromWorker) -> None:
        match message:
            case Chunk(request, data):
                entry = self.open.get(request)
                if entry is not None:
                    entry.answer.put(data)
            case messages.Finished():
                self._finished(worker_id, worker, message)
            case messages.End(request):
                entry = self.open.pop(request, None)
                if entry is not None:
                    entry.answer.complete()
            case messages.Hello(version):
                worker.heard.set()
                if version != messages.PROTOCOL_VERSION and worker.process is not None:
                    log.error("worker speaks another protocol", model=worker.model, version=version)
                    worker.process.kill()
            case messages.Loaded():
                worker.ready_at = time.monotonic()
                worker.loaded = True
                log.info("worker ready", model=worker.model, seconds=round(message.seconds, 2))
                self._post(WorkerReady(worker_id, message.resident, message.load_peak, message.seconds))
                self._rested()
            case messages.LoadFailed():
                worker.load_failed = message
                if worker.process is not None:
                    worker.process.kill()
            case messages.Pong() | messages.Trimmed():
                log.debug("worker answered", model=worker.model, kind=type(message).__name__)

    def _finished(self, worker_id: int, worker: Worker, finished: messages.Finished) -> None:
        entry = self.open.get(finished.id)
        error = finished.error
        self._watcher.answered(worker.model, finished)
        if entry is not None and error is None:
            entry.finished = True
            entry.answer.finished = time.monotonic()
        if error is None or finished.cancelled:
            self._post(RequestFinished(finished.id, worker_id, finished.seconds, finished.peak))
        else:
            if entry is not None:
                entry.error = error
            sent = entry is not None and entry.answer.sent
            self._post(RequestFailed(finished.id, worker_id, sent, out_of_memory=error.out_of_memory))
        self._rested()
