"""The processes that open what clients send (``cohabit.inspector``): at most two, started when they are needed.

A piece waits for a free process, is looked at, and comes back clean or with why it cannot be taken. Clients take
turns, so that one who sends many holds up the others by no more than the piece that is being looked at. Nobody who
has hung up is worked for: his piece is taken out of the queue, or its process is ended.
"""

import asyncio
import signal
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

import structlog

from cohabit.media import Unreadable
from cohabit.protocol.inspection import (
    Clean,
    FromInspector,
    InspectorReady,
    Piece,
    PieceRefused,
    Progress,
    decode_from_inspector,
)
from cohabit.protocol.messages import FrameTooLarge
from cohabit.runtime.supervision import supervise
from cohabit.runtime.workers.process import Program, WorkerProcess
from cohabit.runtime.workers.time_limits import FIRST_WORD, PROGRESS

INSPECTOR: Program[FromInspector] = Program("cohabit.inspector", decode_from_inspector)

MAX_PROCESSES = 2  # processes
MAX_WAITING = 64  # pieces
MAX_PIECES = 200  # for one process, which might have leaked or been damaged by one of them
WALL_SECONDS = 10.0  # for a piece, or from one sign of progress to the next
SLOW_SECONDS = 3.0  # of the processor; the largest honest picture takes 1.3, on a busy machine spread over more time
MAX_LONGER = 5  # times as long again, where the machine is so busy that it got less of the processor
IDLE_SECONDS = 60.0
NICE = 5  # a third of a worker's share of the processor where both want it
RETRY_AFTER = 5.0  # seconds

log = structlog.get_logger()


class TooBusy(Exception):
    """Not now: too many pieces wait, or there is no process to look at them. Trying again helps."""


class Process(Protocol):
    """As much of ``WorkerProcess`` as is needed here."""

    @property
    def pid(self) -> int:
        """Process id."""

    @property
    def code(self) -> int | None:
        """Exit code, or minus the signal's number."""

    def own_cpu_seconds(self) -> float:
        """Processor time it has used so far."""

    def send(self, message: Piece) -> None:
        """Give it a piece. Raises FrameTooLarge."""

    def kill(self) -> None:
        """End it now."""

    async def exited(self) -> str:
        """Until it is reaped."""


Spawn = Callable[[Callable[[FromInspector], None]], Awaitable[Process]]


async def spawn(on_message: Callable[[FromInspector], None]) -> WorkerProcess:
    """A process of its own. Raises OSError."""
    return await WorkerProcess.spawn("inspector", 1, on_message, INSPECTOR, nice=NICE)


@dataclass(slots=True, eq=False)
class _Job:
    """A piece on its way."""

    piece: Piece
    answer: asyncio.Future[bytes]


@dataclass(slots=True, eq=False)
class _Inspector:
    """A process, and what it is at."""

    process: Process | None = None  # not yet
    ready: bool = False
    job: _Job | None = None
    done: int = 0  # pieces
    ending: bool = False  # told to, and given nothing any more
    stuck: bool = False  # ended for taking longer than the clock allows
    slow: bool = False  # and used more of the processor than honest pieces do
    used: float = 0.0  # processor seconds before the piece
    longer: int = 0  # times that the clock was given more time for it
    timer: asyncio.TimerHandle | None = None  # of the piece, or of being idle


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionLimits:
    """How many and how long."""

    most: int = MAX_PROCESSES
    waiting: int = MAX_WAITING
    pieces: int = MAX_PIECES
    wall: float = WALL_SECONDS
    slow: float = SLOW_SECONDS
    idle: float = IDLE_SECONDS
    start: float = FIRST_WORD.seconds


LIMITS = InspectionLimits()


class Inspectors:
    """Lives in one event loop, the main thread's. Has no process until the first piece comes."""

    def __init__(self, spawn: Spawn = spawn, limits: InspectionLimits = LIMITS) -> None:
        """``spawn`` starts a process."""
        self._spawn = spawn
        self._limits = limits
        self._all: list[_Inspector] = []
        self._queues: dict[str, deque[_Job]] = {}  # by client, in the order of their turns
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def inspect(self, piece: Piece, client: str) -> bytes:
        """A file that a worker may open. Cancelled, it is not looked at any further.

        Raises Unreadable for what cannot be taken, TooBusy.
        """
        if self._closed or sum(map(len, self._queues.values())) >= self._limits.waiting:
            raise TooBusy
        job = _Job(piece, asyncio.get_running_loop().create_future())
        self._queues.setdefault(client, deque()).append(job)
        self._hand_out()
        try:
            return await job.answer
        finally:
            self._forget(client, job)
            del job  # what it raised holds this frame: the piece would stay until the garbage collector comes

    def pids(self) -> list[int]:
        """Of those that run."""
        return [one.process.pid for one in self._all if one.process is not None]

    async def close(self) -> None:
        """End them all."""
        self._closed = True
        for one in self._all:
            self._end(one)
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _forget(self, client: str, job: _Job) -> None:
        """It is answered, or nobody waits for it."""
        queue = self._queues.get(client, ())
        if job in queue:
            self._queues[client].remove(job)
            if not self._queues[client]:
                del self._queues[client]
        for one in self._all:
            if one.job is job:
                self._end(one)

    def _hand_out(self) -> None:
        """To each that is free a piece; another process if all are at work."""
        for one in self._all:
            if one.ready and one.job is None and not one.ending and self._queues:
                self._give(one, self._next())
        coming = sum(not one.ready and not one.ending for one in self._all)
        waiting = sum(map(len, self._queues.values()))
        if waiting > coming and len(self._all) < self._limits.most and not self._closed:
            one = _Inspector()
            self._all.append(one)
            task = supervise("inspector", self._live(one), _logged)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _next(self) -> _Job:
        """Of the client whose turn it is; then he is the last."""
        client, queue = next(iter(self._queues.items()))
        job = queue.popleft()
        del self._queues[client]
        if queue:
            self._queues[client] = queue
        return job

    def _give(self, one: _Inspector, job: _Job) -> None:
        assert one.process is not None
        one.job = job
        self._allow(one)
        try:
            one.process.send(job.piece)
        except FrameTooLarge:
            self._answer(one, Unreadable("is too large; make it smaller, or send it in parts"))
            self._rest(one)

    def _on_message(self, one: _Inspector, message: FromInspector) -> None:
        match message:
            case InspectorReady():
                one.ready = True
                self._rest(one)
            case Progress():
                self._allow(one)
            case Clean(data):
                self._answer(one, data)
                self._rest(one)
            case PieceRefused(why, limit):
                self._answer(one, Unreadable(why))
                one.ending |= limit
                self._rest(one)

    def _answer(self, one: _Inspector, answer: bytes | Exception) -> None:
        job, one.job = one.job, None
        one.done += 1
        if job is None or job.answer.done():
            return  # nobody waits for it any more
        if isinstance(answer, bytes):
            job.answer.set_result(answer)
        else:
            job.answer.set_exception(answer)

    def _rest(self, one: _Inspector) -> None:
        """It has nothing to do: the next piece, the end, or a pause until one of them."""
        if one.ending or one.done >= self._limits.pieces:
            self._end(one)
            return
        self._set_timer(one, self._limits.idle, self._end)
        self._hand_out()

    def _allow(self, one: _Inspector) -> None:
        """As long as a piece may take, from now on."""
        one.used, one.longer = one.process.own_cpu_seconds() if one.process is not None else 0.0, 0
        self._set_timer(one, self._limits.wall, self._stuck)

    def _stuck(self, one: _Inspector) -> None:
        used = one.process.own_cpu_seconds() - one.used if one.process is not None else 0.0
        if one.job is not None and PROGRESS <= used <= self._limits.slow and one.longer < MAX_LONGER:
            one.longer += 1  # the machine is busy: it was hardly given the processor
            self._set_timer(one, self._limits.wall, self._stuck)
            return
        log.warning("inspector took too long and is ended", ready=one.ready, cpu_seconds=round(used, 1))
        one.stuck, one.slow = True, used > self._limits.slow
        self._end(one)

    def _end(self, one: _Inspector) -> None:
        one.ending = True
        if one.process is not None:
            one.process.kill()

    def _set_timer(self, one: _Inspector, seconds: float, then: Callable[[_Inspector], None]) -> None:
        if one.timer is not None:
            one.timer.cancel()
        one.timer = asyncio.get_running_loop().call_later(seconds, then, one)

    async def _live(self, one: _Inspector) -> None:
        try:
            one.process = await self._spawn(lambda message: self._on_message(one, message))
            if one.ending:
                one.process.kill()
            elif not one.ready:
                self._set_timer(one, self._limits.start, self._stuck)
            how = await one.process.exited()
        except OSError as error:
            log.warning("an inspector could not be started", why=error.strerror)
        else:
            log.debug("inspector ended", how=how, pieces=one.done)
        finally:
            if one.timer is not None:
                one.timer.cancel()
            self._all.remove(one)
            self._bury(one)

    def _bury(self, one: _Inspector) -> None:
        """What it was at ends with it; one that never got ready takes a piece along, the only one all of them."""
        started = one.ready or (one.ending and not one.stuck)
        if one.job is not None:
            self._answer(one, _why(one))
        elif self._queues and not started:
            _fail(self._next(), TooBusy())
        while self._queues and (self._closed or not (started or self._all)):
            _fail(self._next(), TooBusy())
        self._hand_out()


def _logged(_error: BaseException) -> None:
    """What a task failed with; ``_live`` has ended its process and answered for its piece."""


def _fail(job: _Job, error: Exception) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)


def _why(one: _Inspector) -> Exception:
    """Why a process ended over a piece; a kill that is not ours is the machine's, which lacks memory."""
    code = one.process.code if one.process is not None else None
    if one.slow or code == -signal.SIGXCPU:
        return Unreadable("takes too long to open; save it again, make it smaller, or send it in another format")
    if one.stuck or one.ending or code == -signal.SIGKILL or code is None:
        return TooBusy()
    log.warning("inspector ended over a piece", code=code)
    return Unreadable("broke the program that opens it; save it again, or send it in another format")
