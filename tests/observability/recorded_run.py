"""A core at work with a journal beside it, for the tests of both the journal and the replay."""

from pathlib import Path

from cohabit.core.commands import Command, Dispatch, StartWorker, StopWorker
from cohabit.core.controller import Controller
from cohabit.core.events import (
    DeviceMeasured,
    Event,
    RequestArrived,
    RequestCancelled,
    RequestFinished,
    ShutdownRequested,
    Started,
    TimerFired,
    WorkerExited,
    WorkerReady,
)
from cohabit.core.eviction import Policy
from cohabit.core.ledger import Ledger
from cohabit.observability.journal import Journal
from cohabit.observability.journal_format import Head
from core.driver import MIB, model

CLOCK = 1000.0  # of the core when it begins


class Recorded:
    """Two models of which one fits, each served by a shell that answers at once."""

    def __init__(self, path: Path, *, limit: int = 1 << 20) -> None:
        """Begin a journal."""
        models = [model("a", preload=True), model("b", keep_alive=5.0)]
        self.controller = Controller(models, Ledger(budget=150 * MIB, keep_free=0, slots=2), Policy.GDSF)
        self.now = CLOCK
        self.events = 0
        head = Head.of(
            self.controller.state,
            Policy.GDSF,
            cohabit="0.0.1",
            began="2026-01-02T03:04:05.000+00:00",
            clock=CLOCK,
            device="cpu",
        )
        self.journal = Journal(path, head, limit=limit)

    def send(self, event: Event) -> None:
        """One event, and those that its commands bring."""
        commands = self.controller.handle(event, self.now)
        self.journal.handled(event, commands, self.now)
        self.events += 1
        self.now += 0.01
        for command in commands:
            self._answer(command)

    def _answer(self, command: Command) -> None:
        match command:
            case StartWorker(_, worker):
                self.send(WorkerReady(worker, 100 * MIB, 110 * MIB, 0.5))
            case StopWorker(_, worker):
                self.send(WorkerExited(worker, 0.1))
            case Dispatch(_, worker, requests):
                for request in requests:
                    self.send(RequestFinished(request, worker, 0.2, 105 * MIB))
            case _:
                pass

    def work(self) -> None:
        """A short life: turns of both models, a death, a client that leaves, the end."""
        self.send(Started())
        for request in range(1, 13):
            name = "a" if request % 4 < 2 else "b"
            self.send(
                RequestArrived(request, name, f"10.0.0.{request % 3}", self.now + 60.0 if request % 2 else None)
            )
            self.send(
                DeviceMeasured(self.now, 4096 * MIB, 3900 * MIB, dict.fromkeys(self.controller.state.workers, 7))
            )
            self.now += 3.0
            self.send(TimerFired())
        [worker] = self.controller.state.workers
        self.send(WorkerExited(worker, 0.0, frozenset({2, 1}), "its worker ended with signal SIGKILL"))
        self.send(RequestArrived(13, "b", "10.0.0.1"))
        self.send(RequestCancelled(13))
        self.send(ShutdownRequested(1.0))
