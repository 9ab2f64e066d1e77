"""Ends workers that hold more memory than they may (``core.memory_limits``), at once.

On cpu a thread of the control plane looks at them, at least every 50 ms and sooner where one could reach its limit
sooner. A look inside the worker would not do: a library may hold its interpreter for seconds. The kernel is told a
limit as well (``RLIMIT_DATA``), for what is faster than any look. It is wider, since it counts memory that is
reserved and not used. On a card the device's readings are looked at.

The thread kills by itself, and does not wait for the event loop. The worker's exit then takes the way of any death.
"""

import asyncio
import re
import resource
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from cohabit.core.commands import Command
from cohabit.core.events import DeviceMeasured, Event, RequestArrived
from cohabit.core.lifecycle import State
from cohabit.core.memory_limits import NOISE, MemoryLimits, memory_limits
from cohabit.core.state import SchedulerState
from cohabit.devices.cpu import group_members, pss
from cohabit.runtime.workers.handle import WorkerHandle

log = structlog.get_logger()

PERIOD = 0.05  # seconds between two looks at the latest
SOONEST = 0.005
RESTING = 0.5  # seconds between two looks while nothing runs, and nothing did
FASTEST = 4 << 30  # bytes a second that a worker may take: no machine touches fresh memory faster
FAMILIES = 1.0  # seconds between two looks for children of workers
SLACK = 384 << 20  # bytes of RLIMIT_DATA that may be reserved and not used: stacks of threads, arenas of allocators
_STEP = 16 << 20  # bytes by which a limit of the kernel is off before it is set anew
_PAGE = resource.getpagesize()
_DATA = re.compile(rb"VmData:\s+(\d+) kB")
_LOOKED_AT = (State.READY, State.STARTING, State.WAKING, State.ENTERING_SLEEP)


@dataclass(slots=True)
class _Kernel:
    """What the kernel was told of one process. Bytes."""

    unused: int = 0  # data that was reserved and not resident when it was last looked at
    limit: int = resource.RLIM_INFINITY  # RLIMIT_DATA


@dataclass(frozen=True, slots=True)
class _Watched:
    """What is looked at, as of the last event."""

    allowed: MemoryLimits = field(default_factory=MemoryLimits)
    workers: Mapping[int, WorkerHandle] = field(default_factory=dict)
    bounded: AbstractSet[int] = frozenset()  # those that only run, so that the kernel may be told their limit
    busy: bool = False  # any of them runs something or comes in

    def exceeding(self, held: Mapping[int, int]) -> int | None:
        """Whom to end, of those that are looked at."""
        return self.allowed.exceeding({worker: size for worker, size in held.items() if worker in self.workers})


class Guard:
    """Looks at workers and ends those that hold too much."""

    def __init__(self, state: SchedulerState, workers: Mapping[int, WorkerHandle], *, on_card: bool) -> None:
        """``workers`` has every one with its process; it is read in the event loop only."""
        self._state = state
        self._workers = workers
        self._on_card = on_card
        self._watched = _Watched()
        self._kernel: dict[int, _Kernel] = {}  # by worker
        self._lock = threading.Lock()  # so that no limit is set from what was true before the last event
        self._kernel_refuses = False
        self._wake = threading.Event()
        self._busy_at = float("-inf")
        self._families: dict[int, list[int]] = {}  # by group
        self._families_at = float("-inf")

    def handled(self, event: Event, commands: Sequence[Command], _now: float) -> None:
        """A ``control_loop.Observe``. The kernel's limits are raised before a worker hears what it is to do."""
        if not commands and isinstance(event, RequestArrived):
            return  # it is queued, which changes nothing of a worker
        if self._on_card:
            if isinstance(event, DeviceMeasured):
                self._judge(self._watched, event.workers)
            self._watched = self._now()
            return
        with self._lock:
            before, self._watched = self._watched, self._now()
            watched = self._watched
            for worker in self._kernel.keys() - watched.workers.keys():
                del self._kernel[worker]
            for worker in watched.workers:
                self._bound(watched, worker, only_raise=True)
        if watched.busy and not before.busy:
            self._wake.set()

    async def run(self) -> None:
        """For ever, on cpu. Raises what the thread raised; to be started again."""
        if self._on_card:
            return
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[None] = loop.create_future()
        stop = threading.Event()

        def watch() -> None:
            try:
                while not stop.is_set():
                    self._wake.clear()
                    self._wake.wait(self.look())
            except Exception as error:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_fail, ended, error)

        threading.Thread(target=watch, name="memory guard", daemon=True).start()
        try:
            await ended
        finally:
            stop.set()
            self._wake.set()

    def look(self) -> float:
        """One round; the seconds until the next. Raises OSError if workers cannot be looked at."""
        watched = self._watched
        now = time.monotonic()
        if watched.busy:
            self._busy_at = now
        elif now - self._busy_at > RESTING:
            return RESTING
        self._find_families(now)
        held = {id_: self._resident(pid) for id_, pid in _pids(watched.workers)}
        with self._lock:
            if watched is self._watched:
                for worker in watched.bounded & held.keys():
                    self._measure(worker, held[worker])
                    self._bound(watched, worker, only_raise=False)
        if watched.exceeding(held) is not None:
            # Resident sizes count what processes share in each of them, so they are only a first look.
            beyond = {worker for worker, size in held.items() if size > watched.allowed.given[worker]}
            suspects = {id_: worker for id_, worker in watched.workers.items() if id_ in beyond}
            with _halted(suspects.values()):
                held |= {id_: self._proportional(pid) for id_, pid in _pids(suspects)}
                self._judge(watched, held)
        return self._pause(watched.allowed, held)

    def _now(self) -> _Watched:
        workers, bounded = {}, set()
        for id_, model in self._state.workers.items():
            state, worker = model.lifecycle.state, self._workers.get(id_)
            if worker is not None and state in _LOOKED_AT:
                workers[id_] = worker
                if state is State.READY:
                    bounded.add(id_)
        limits = memory_limits(self._state)
        busy = bool(self._state.busy) or len(bounded) < len(workers)
        return _Watched(MemoryLimits(limits.given, limits.headroom + NOISE), workers, bounded, busy)

    def _judge(self, watched: _Watched, held: Mapping[int, int]) -> None:
        """End the one that is chosen by what was true before they were looked at and by what is true now.

        Else one could be ended for memory that it was given, or gave back, while they were looked at.
        """
        chosen = watched.exceeding(held)
        if chosen is not None and chosen == self._watched.exceeding(held):
            watched.workers[chosen].end_for_memory(held[chosen], watched.allowed.limit(chosen))

    def _pause(self, allowed: MemoryLimits, held: Mapping[int, int]) -> float:
        left = min((allowed.limit(worker) - size for worker, size in held.items()), default=FASTEST)
        return min(PERIOD, max(SOONEST, left / FASTEST))

    def _find_families(self, now: float) -> None:
        if now - self._families_at >= FAMILIES:
            self._families, self._families_at = group_members(), now

    def _members(self, pid: int) -> Iterable[int]:
        return {pid, *self._families.get(pid, ())}

    def _resident(self, pid: int) -> int:
        return sum(map(_resident_size, self._members(pid)))

    def _proportional(self, pid: int) -> int:
        return sum(map(pss, self._members(pid)))

    # the kernel's own limit

    def _measure(self, worker: int, resident: int) -> None:
        process = self._watched.workers[worker].process
        data = _data_size(process.pid) if process is not None else None
        if data is not None:
            self._kernel.setdefault(worker, _Kernel()).unused = max(0, data - resident)

    def _bound(self, watched: _Watched, worker: int, *, only_raise: bool) -> None:
        """Tell the kernel what a worker may hold, if what it was told is no longer near that."""
        known = self._kernel.get(worker)
        process = watched.workers[worker].process
        if known is None or process is None or self._kernel_refuses:
            return  # not bounded yet: that is done once it has been looked at
        wanted = resource.RLIM_INFINITY
        if worker in watched.bounded:
            wanted = watched.allowed.limit(worker) + known.unused + SLACK
        raised = known.limit != resource.RLIM_INFINITY and (
            wanted == resource.RLIM_INFINITY or wanted > known.limit + _STEP
        )
        lowered = wanted != resource.RLIM_INFINITY and (
            known.limit == resource.RLIM_INFINITY or wanted < known.limit - _STEP
        )
        if raised or (lowered and not only_raise):
            try:
                resource.prlimit(process.pid, resource.RLIMIT_DATA, (wanted, resource.RLIM_INFINITY))
            except ProcessLookupError:
                return  # it has just ended
            except PermissionError:
                log.warning("the kernel does not limit the memory of workers; they are only looked at")
                self._kernel_refuses = True
            known.limit = wanted


def _fail(ended: "asyncio.Future[None]", error: Exception) -> None:
    if not ended.done():
        ended.set_exception(error)


@contextmanager
def _halted(workers: Collection[WorkerHandle]) -> Iterator[None]:
    """Let these take no more memory meanwhile: to look closely takes milliseconds, and a load takes MiB in each."""
    processes = [worker.process for worker in workers if worker.process is not None]
    for process in processes:
        process.halt()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def _pids(workers: Mapping[int, WorkerHandle]) -> Iterable[tuple[int, int]]:
    """Of those that have a process by now."""
    return [(id_, process.pid) for id_, worker in workers.items() if (process := worker.process) is not None]


def _resident_size(pid: int) -> int:
    """Bytes; 0 for a process that has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_bytes().split()[1]) * _PAGE
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _data_size(pid: int) -> int | None:
    """Bytes of private memory that can be written, used or not; None for a process that has ended."""
    try:
        match = _DATA.search(Path(f"/proc/{pid}/status").read_bytes())
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(match[1]) * 1024 if match else None
