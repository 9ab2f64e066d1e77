"""Carries the core's commands out on real processes; every one ends in the event that ``core.events`` names."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import structlog

from cohabit.core.commands import (
    Cancel,
    Command,
    Dispatch,
    Halt,
    PrewarmWorker,
    Reject,
    Rejection,
    SetTimer,
    SleepWorker,
    StartWorker,
    StopWorker,
    TrimWorker,
    WakeWorker,
)
from cohabit.core.events import Event
from cohabit.core.snapshot import Alert
from cohabit.protocol.spec import Device
from cohabit.runtime.inflight import InFlightRequests, Watcher
from cohabit.runtime.stalls import StallDetector
from cohabit.runtime.workers.process import WorkerProcess
from cohabit.runtime.workers.supervisor import Launch, Supervisor, WorkerHandle

log = structlog.get_logger()


class Effects:
    """Executes commands as tasks. Owned by the control loop's thread."""

    def __init__(
        self,
        launches: Mapping[str, Launch],
        device: Device,
        *,
        post: Callable[[Event], None],
        halt: Callable[[], None],
        fail: Callable[[str, BaseException], None],
        watcher: Watcher,
    ) -> None:
        """``halt`` is called when everything has ended; ``fail`` with an error after which nothing can go on."""
        self.workers: dict[int, WorkerHandle] = {}
        self.answers = InFlightRequests(self.workers, post=post, watcher=watcher)
        self._supervisor = Supervisor(self.workers, launches, device, answers=self.answers, post=post, fail=fail)
        self._halt = halt

    def processes(self) -> dict[int, WorkerProcess]:
        """The process of every worker that has one."""
        return {worker_id: worker.process for worker_id, worker in self.workers.items() if worker.process is not None}

    def alerts(self) -> Iterator[Alert]:
        """One for each model whose worker cannot be started though it is not the model's fault."""
        yield from self._supervisor.alerts()

    def log_of(self, model: str) -> Sequence[str]:
        """The last lines that a model's worker printed, or the one before if it has no process now."""
        for worker in self.workers.values():
            if worker.model == model and worker.process is not None:
                return worker.process.log_tail
        return self._supervisor.last_lines.get(model, ())

    def stalls(self, *, after: float, max_stall: Mapping[str, float]) -> StallDetector:
        """What notices that nothing goes on. Seconds, the latter by model."""

        def end(worker: int, blamed: int | None) -> None:
            self._supervisor.end_stalled(worker, max_stall[self.workers[worker].model], blamed)

        return StallDetector(self.workers, self.answers, after=after, max_stall=max_stall, end=end)

    def abort(self, rejection: Rejection) -> None:
        """End all requests with this and kill all workers. Nothing is to be executed afterwards."""
        self.answers.reject_all(rejection)
        for worker in list(self.workers):
            self._supervisor.stop(worker, kill=True)

    def execute(self, command: Command) -> None:
        """Begin to carry a command out. Never blocks, never raises."""
        match command:
            case PrewarmWorker(model, worker):
                self._supervisor.spawn(model, worker)
            case StartWorker(model, worker, keep_copy):
                self._supervisor.start(model, worker, keep_copy=keep_copy)
            case StopWorker(model, worker, cause, why, kill):
                log.info("stopping worker", model=model, cause=cause, why=why)
                self._supervisor.stop(worker, kill=kill)
            case SleepWorker(model, worker, cause, why):
                log.info("putting worker to sleep", model=model, cause=cause, why=why)
                self._supervisor.sleep(worker)
            case WakeWorker(model, worker):
                log.info("waking worker", model=model)
                self._supervisor.wake(worker)
            case TrimWorker(model, worker, why):
                log.debug("trimming worker", model=model, why=why)
                self._supervisor.trim(worker)
            case Dispatch(_, worker, requests):
                self.answers.dispatch(worker, requests)
            case Cancel(request, worker):
                self.answers.cancel(request, worker)
            case Reject(request, rejection):
                self.answers.reject(request, rejection)
            case Halt():
                self._halt()
            case SetTimer():
                raise AssertionError("the control loop keeps the timer")
