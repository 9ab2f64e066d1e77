"""One worker or inspector process: spawned with its link, logged, ended with its whole group, reaped."""

import asyncio
import os
import secrets
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
import psutil
import structlog

from cohabit.protocol.messages import FromWorker, Shutdown, decode_from_worker
from cohabit.runtime.supervision import supervise
from cohabit.runtime.workers.native_link import NativeLink

POLITE_SECONDS = 5.0  # between the word and the kill
LAST_FRAMES_SECONDS = 1.0  # what a dead worker had sent must be read within this
LOG_TAIL = 40  # lines kept for the reason of a failure
SILENT = {  # workers have no business on the network: weights are fetched before, by the control plane
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime, from 1.29 on: names and hashes of models, to Microsoft
    "HF_HUB_OFFLINE": "1",  # faster-whisper would fetch a tokenizer that its folder lacks
    "DO_NOT_TRACK": "1",  # by convention, all others
}

Received = TypeVar("Received")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Program(Generic[Received]):
    """What a process runs (``python -m MODULE``), and how its messages are decoded."""

    module: str
    decode: Callable[[memoryview], Received]


WORKER: Program[FromWorker] = Program("cohabit.worker", decode_from_worker)


class WorkerProcess:
    """A process in a session of its own, so that its group id is its pid and Ctrl-C does not reach it."""

    def __init__(self, model: str, process: Process, link: NativeLink[Any], mark: bytes) -> None:
        """Made by ``spawn``. Lines that hold ``mark`` are the worker's own words."""
        self.model = model
        self.pid = process.pid
        self.heard = 0  # messages so far: a sign of life
        self._cpu_seconds = 0.0
        self._process = process
        self._link = link
        self._tail: deque[str] = deque(maxlen=LOG_TAIL)
        self._mark = mark
        self._hushed = False
        # Without a reader its output fills the pipe, and then it stands still.
        self._logs = supervise(f"log of a worker of {model}", self._read_logs(), lambda _: self.kill())

    @classmethod
    async def spawn(
        cls,
        model: str,
        threads: int,
        on_message: Callable[[Received], None],
        program: Program[Received] = WORKER,  # type: ignore[assignment]  # the default goes with a worker's messages
        *,
        nice: int = 0,
    ) -> "WorkerProcess":
        """Start a process, a worker unless ``program`` says otherwise.

        Must run in the main thread: the kernel's parent-death signal follows the thread.
        """
        mark = secrets.token_hex(8)
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", program.module),
                    *("--fd", str(theirs.fileno()), "--parent", str(os.getpid())),
                    pass_fds=(theirs.fileno(),),
                    stdin=DEVNULL,
                    stdout=PIPE,
                    stderr=STDOUT,
                    start_new_session=True,
                    env={
                        **os.environ,
                        **SILENT,
                        "COHABIT_MARK": mark,
                        "PYTHONUNBUFFERED": "1",
                        "OMP_NUM_THREADS": str(threads),
                        "OPENBLAS_NUM_THREADS": str(threads),
                        "TOKENIZERS_PARALLELISM": "false",
                        # CUDA counts cards by speed, the driver's library that measures them by slot.
                        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
                        # glibc's arena per thread would keep freed memory, and so would the heap, as glibc raises
                        # by itself the size from which on memory is mapped and so returned when freed.
                        "MALLOC_ARENA_MAX": "2",
                        "MALLOC_MMAP_THRESHOLD_": str(16 << 20),
                        # Python's own allocator keeps a whole arena for one object that stays: a model that loads
                        # large dictionaries would leave some MiB more behind at every sleep.
                        "PYTHONMALLOC": "malloc",
                    },
                )
            except BaseException:
                ours.close()
                raise
        with suppress(ProcessLookupError):  # it has died already, and will be noticed
            os.setpriority(os.PRIO_PROCESS, process.pid, nice)  # while it has one thread: the others inherit it

        early: list[Received] | None = []

        def hand_on(message: Received) -> None:
            worker.heard += 1
            on_message(message)

        def on_received(message: Received) -> None:
            if early is None:
                hand_on(message)
            else:
                early.append(message)

        def begin() -> None:
            nonlocal early
            messages, early = early or [], None
            for message in messages:
                hand_on(message)

        # In a busy loop a worker may be heard before it is known here, and before the caller knows it.
        worker = cls(model, process, await NativeLink.connect(ours, on_received, program.decode), mark.encode())
        if program is not WORKER:
            worker.hush()  # it has no load: what clients send comes at once
        asyncio.get_running_loop().call_soon(begin)
        return worker

    def send(self, message: msgspec.Struct) -> None:
        """Send it one message."""
        self._link.send(message)

    def kill(self) -> None:
        """End the worker and every child it has, now."""
        self._signal(signal.SIGKILL)

    def halt(self) -> None:
        """Let the worker and its children stand still until ``resume``: they take no memory meanwhile."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let them go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            log.debug("worker was gone already", model=self.model, pid=self.pid)

    async def stop(self) -> None:
        """Ask it to leave; kill it if it does not within POLITE_SECONDS."""
        self.send(Shutdown())
        try:
            async with asyncio.timeout(POLITE_SECONDS):
                await self._process.wait()
        except TimeoutError:
            log.warning("worker did not leave when asked and is killed", model=self.model, pid=self.pid)
            self.kill()

    @property
    def code(self) -> int | None:
        """Its exit code once it is reaped, or the number of the signal that ended it, negative."""
        return self._process.returncode

    async def exited(self) -> str:
        """Until the process is reaped, its group gone and its last frames handed on; returns how it ended."""
        code = await self._process.wait()
        self.kill()  # children it may have left
        await asyncio.wait([self._link.closed, self._logs], timeout=LAST_FRAMES_SECONDS)
        self._logs.cancel()
        self._link.close()
        how = f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
        return f"its worker ended with {how}"

    def own_cpu_seconds(self) -> float:
        """Processor time of the process without its children; 0 for one that has just ended."""
        try:
            times = psutil.Process(self.pid).cpu_times()
        except psutil.NoSuchProcess:
            return 0.0
        return float(times.user + times.system)

    def cpu_seconds(self) -> float:
        """Processor time of the process and the children it has; as last seen, where that cannot be read now."""
        try:
            leader = psutil.Process(self.pid)
            times = [one.cpu_times() for one in (leader, *leader.children(recursive=True))]
        except (psutil.Error, OSError):  # it has ended, or no file descriptor is free
            return self._cpu_seconds
        self._cpu_seconds = float(sum(one.user + one.system for one in times))
        return self._cpu_seconds

    def hush(self) -> None:
        """From now on requests come, and libraries print what is in them: only the worker's own words are kept."""
        self._hushed = True

    @property
    def log_tail(self) -> list[str]:
        """The last lines it printed."""
        return list(self._tail)

    async def _read_logs(self) -> None:
        output = self._process.stdout
        assert output is not None
        while True:
            try:
                line = await output.readline()
            except ValueError:
                continue  # longer than the reader's limit: dropped, and the stream goes on
            if not line:
                return
            _, mark, own = line.partition(self._mark)
            if self._hushed and not mark:
                continue
            text = (own if mark else line).decode(errors="replace").rstrip()
            self._tail.append(text)
            log.debug("worker", model=self.model, line=text)
