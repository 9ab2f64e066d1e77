"""Carries the core's commands out on real processes; every one ends in the event that ``core.events`` names."""

from collections.abc import Callable

import structlog

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
from cohabit.runtime.inflight import InFlightRequests
from cohabit.runtime.workers.supervisor import Supervisor

log = structlog.get_logger()


class Effects:
    """Passes each command to the owner of what it changes: of processes, or of requests."""

    def __init__(self, supervisor: Supervisor, inflight: InFlightRequests, *, halt: Callable[[], None]) -> None:
        """``halt`` is called when everything has ended."""
        self._supervisor = supervisor
        self._inflight = inflight
        self._halt = halt

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
                self._inflight.dispatch(self._supervisor.workers[worker], requests)
            case Cancel(request, worker):
                self._supervisor.cancel(worker, request)
            case Reject(request, rejection):
                self._inflight.reject(request, rejection)
            case Halt():
                self._halt()
            case SetTimer():
                raise AssertionError("the control loop keeps the timer")
