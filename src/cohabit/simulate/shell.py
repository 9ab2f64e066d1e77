"""The shell in virtual time: carries the core's commands out by a heap of what will have ended when.

It does what ``runtime`` does with processes, without any: every command ends in the event that ``core.events``
names, after the seconds that the model's behaviour says. Requests that run beside each other do not slow each other
down; a batch lasts as long as its longest. After whatever may have freed memory the device is read, unless told
otherwise no more often than the sampler would. A reading is honest and there is no foreign memory, so that reading
it every second besides would tell nothing new.
"""

import heapq
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Any, assert_never

from cohabit.core.commands import (
    Cancel,
    Command,
    Dispatch,
    Halt,
    PrewarmWorker,
    Reject,
    SetTimer,
    SleepWorker,
    StartWorker,
    StopWorker,
    TrimWorker,
    WakeWorker,
)
from cohabit.core.events import (
    DeviceMeasured,
    Event,
    RequestArrived,
    RequestCancelled,
    RequestFinished,
    Slept,
    Started,
    TimerFired,
    Trimmed,
    WorkerExited,
    WorkerReady,
)
from cohabit.runtime.control_loop import Observe
from cohabit.runtime.sampler import SOONEST
from cohabit.simulate.behaviour import Behaviour

AT_ONCE = 1000  # timers in a row at one moment: the core would ask without end
READING_AFTER = 0.001  # a reading shows only the end of runs that ended before it began

Step = WorkerReady | Slept | Trimmed | WorkerExited


class Stuck(Exception):
    """Requests wait and time stands still: nothing is due, or one moment comes again and again. A bug in the core."""


@dataclass(slots=True)
class _Asked:
    model: str
    run_seconds: float
    client: str
    background: bool
    deadline: float | None
    units: int
    then: Callable[[float], None] | None


@dataclass(slots=True)
class _Worker:
    """The ends of what it does. One that is not (or no longer) here has been replaced and never happens."""

    behaviour: Behaviour
    step: Step | None = None
    runs: dict[int, RequestFinished] = field(default_factory=dict)


class VirtualShell:
    """Drives a core. ``observers`` see what those of the control loop see."""

    def __init__(
        self,
        decide: Callable[[Event, float], Sequence[Command]],
        behaviours: Mapping[str, Behaviour],
        *,
        total: int,
        read_every: float = SOONEST,
        observers: Sequence[Observe] = (),
    ) -> None:
        """``decide`` is a controller's ``handle``; ``total`` is what the device has, in bytes.

        Between two readings pass ``read_every`` seconds at the least.
        """
        self.now = 0.0
        self._decide = decide
        self._behaviours = behaviours
        self._total = total
        self._read_every = read_every
        self._observers = observers
        self._future: list[tuple[float, int, Callable[[Any], Event | None], Any]] = []
        self._planned = 0
        self._timer = inf
        self._fired: deque[float] = deque([-inf], maxlen=AT_ONCE)  # when the last timers did
        self._requests = 0
        self._asked: dict[int, _Asked] = {}
        self._workers: dict[int, _Worker] = {}
        self._held: dict[int, int] = {}
        self._next_read = -inf  # or the last one
        self._began = False

    def ask(
        self,
        model: str,
        *,
        at: float,
        run_seconds: float,
        client: str = "",
        background: bool = False,
        deadline: float | None = None,
        units: int = 0,
        leaves_at: float = inf,
        then: Callable[[float], None] | None = None,
    ) -> int:
        """A request will arrive; its id. ``then`` is told the time when it has ended, and may ask again.

        Its client leaves at ``leaves_at``, if it has not been answered by then.
        """
        self._requests += 1
        self._asked[self._requests] = _Asked(model, run_seconds, client, background, deadline, units, then)
        self._plan(at, self._arrive, self._requests)
        if leaves_at < inf:
            self._plan(leaves_at, self._leave, self._requests)
        return self._requests

    def run(self, until: float = inf) -> float:
        """Until every request has ended, or until then; returns the time. Raises Stuck."""
        if not self._began:
            self._began = True
            self._handle(Started())
        while self._asked:
            at = self._future[0][0] if self._future else inf
            moment = min(at, self._timer)
            if moment > until:
                break
            if moment == inf:
                raise Stuck(f"{len(self._asked)} requests wait at {self.now:g} s and nothing is due")
            self.now = max(self.now, moment)
            event: Event | None
            if at <= self._timer:
                _, _, happen, what = heapq.heappop(self._future)
                event = happen(what)
            else:
                event = self._fire()
            if event is not None:
                self._handle(event)
        return self.now

    def _fire(self) -> TimerFired:
        self._timer = inf
        self._fired.append(self.now)
        if len(self._fired) == AT_ONCE and self._fired[0] == self.now:
            raise Stuck(f"at {self.now:g} s the timer is set for the same moment again and again")
        return TimerFired()

    def _plan(self, at: float, happen: Callable[[Any], Event | None], what: Any) -> None:
        self._planned += 1
        heapq.heappush(self._future, (at, self._planned, happen, what))

    def _handle(self, event: Event) -> None:
        commands = self._decide(event, self.now)
        for command in commands:
            self._execute(command)
        for observe in self._observers:
            observe(event, commands, self.now)
        for command in commands:
            if type(command) is Reject:
                self._end(command.request)
        if type(event) is RequestFinished or (type(event) is RequestCancelled and not _runs_on(event, commands)):
            self._end(event.request)

    def _end(self, request: int) -> None:
        asked = self._asked.pop(request, None)
        if asked is not None and asked.then is not None:
            asked.then(self.now)

    # what the core commands

    def _execute(self, command: Command) -> None:
        match command:
            case SetTimer(at):
                self._timer = inf if at is None else at
            case Dispatch(_, worker, requests):
                self._dispatch(worker, requests)
            case PrewarmWorker(model, worker):
                self._workers[worker] = _Worker(self._behaviours[model])
                self._held[worker] = self._behaviours[model].prewarmed or 0
            case StartWorker(model, worker, keep_copy):
                takes = self._behaviours[model]
                self._workers.setdefault(worker, _Worker(takes))
                self._held[worker] = takes.load
                seconds = takes.load_seconds
                copy = (takes.host_copy or 0) if keep_copy else 0
                self._begin(worker, WorkerReady(worker, takes.idle, takes.load, seconds, copy), seconds)
            case WakeWorker(_, worker):
                takes = self._workers[worker].behaviour
                self._held[worker] = takes.idle
                seconds = takes.load_seconds if takes.wake_seconds is None else takes.wake_seconds
                self._begin(worker, WorkerReady(worker, takes.idle, takes.idle, seconds), seconds)
            case SleepWorker(_, worker):
                takes = self._workers[worker].behaviour
                self._begin(worker, Slept(worker, takes.sleep_resident, takes.sleep_seconds), takes.sleep_seconds)
            case TrimWorker(_, worker):
                self._begin(worker, Trimmed(worker), 0.0)
            case StopWorker(_, worker):
                self._workers[worker].runs.clear()
                seconds = self._workers[worker].behaviour.exit_seconds
                self._begin(worker, WorkerExited(worker, seconds), seconds)
            case Cancel(request, worker):
                self._cut_short(request, worker)
            case Reject() | Halt():
                pass
            case _:
                assert_never(command)

    def _begin(self, worker: int, step: Step, seconds: float) -> None:
        self._workers[worker].step = step
        self._plan(self.now + seconds, self._stepped, step)

    def _dispatch(self, worker_id: int, requests: tuple[int, ...]) -> None:
        worker = self._workers[worker_id]
        takes = worker.behaviour
        if not worker.runs:
            self._held[worker_id] = takes.idle + takes.activation
        seconds = max(self._asked[request].run_seconds for request in requests)
        for request in requests:
            end = RequestFinished(request, worker_id, seconds, takes.idle + takes.activation)
            worker.runs[request] = end
            self._plan(self.now + seconds, self._finished, end)

    def _cut_short(self, request: int, worker_id: int) -> None:
        worker = self._workers.get(worker_id)
        if worker is not None and request in worker.runs:
            worker.runs[request] = end = RequestFinished(request, worker_id, 0.0, worker.runs[request].peak)
            self._plan(self.now, self._finished, end)

    # what happens then

    def _arrive(self, request: int) -> RequestArrived:
        asked = self._asked[request]
        return RequestArrived(
            request, asked.model, asked.client, asked.deadline, background=asked.background, units=asked.units
        )

    def _leave(self, request: int) -> RequestCancelled | None:
        return RequestCancelled(request) if request in self._asked else None

    def _finished(self, end: RequestFinished) -> Event | None:
        worker = self._workers.get(end.worker)
        if worker is None or worker.runs.get(end.request) is not end:
            return None
        del worker.runs[end.request]
        if not worker.runs:
            self._held[end.worker] = worker.behaviour.idle
        self._read_soon()
        return end

    def _stepped(self, step: Step) -> Event | None:
        worker = self._workers.get(step.worker)
        if worker is None or worker.step is not step:
            return None
        worker.step = None
        match step:
            case WorkerReady(idle=held) | Slept(held=held):
                self._held[step.worker] = held
            case WorkerExited():
                del self._workers[step.worker], self._held[step.worker]
            case Trimmed():
                pass
            case _:
                assert_never(step)
        self._read_soon()
        return step

    def _read_soon(self) -> None:
        if self._next_read <= self.now:  # one that is due at this moment may be from before what is to be seen
            self._next_read = max(self.now + READING_AFTER, self._next_read + self._read_every)
            self._plan(self._next_read, self._read, None)

    def _read(self, _: None) -> DeviceMeasured:
        return DeviceMeasured(self.now, self._total, self._total - sum(self._held.values()), dict(self._held))


def _runs_on(left: RequestCancelled, commands: Sequence[Command]) -> bool:
    """Whether a worker has it and was told to end it, which it will say."""
    return any(type(command) is Cancel and command.request == left.request for command in commands)
