"""A driver for the core: events in at given times, invariants checked after each."""

from collections.abc import Sequence
from typing import Any, assert_never

from cohabit.core import invariants
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
from cohabit.core.controller import Controller
from cohabit.core.events import (
    DeviceMeasured,
    Event,
    RequestArrived,
    RequestFailed,
    RequestFinished,
    Slept,
    TimerFired,
    Trimmed,
    WorkerExited,
    WorkerReady,
)
from cohabit.core.eviction import Policy
from cohabit.core.footprints import Figure, Footprint, Origin
from cohabit.core.ledger import Ledger
from cohabit.core.model_state import Model, ModelPolicy
from cohabit.core.state import SchedulerState

MIB = 1 << 20


def model(
    name: str,
    *,
    idle: int = 100,
    activation: int = 10,
    load: int | None = None,
    sleep_resident: int | None = None,
    host_copy: int | None = None,
    prewarmed: int | None = None,
    wake_seconds: float | None = None,
    load_seconds: float = 1.0,
    exit_seconds: float = 0.0,
    **policy: Any,
) -> Model:
    """A model with sizes in MiB; one with ``sleep_resident`` can sleep, one with ``host_copy`` only by that.

    ``prewarmed`` is what its bare process takes; None: not known. ``policy`` goes into the ModelPolicy as it is.
    """
    declared = Origin.DECLARED
    return Model(
        ModelPolicy(
            name=name,
            sleeps=sleep_resident is not None,
            copies=host_copy is not None and sleep_resident is not None,
            **policy,
        ),
        Footprint(
            idle=Figure(idle * MIB, declared),
            load=Figure((idle if load is None else load) * MIB, declared),
            activation=Figure(activation * MIB, declared),
            sleep_resident=None if sleep_resident is None else Figure(sleep_resident * MIB, declared),
            host_copy=None if host_copy is None else Figure(host_copy * MIB, declared),
            prewarmed=None if prewarmed is None else prewarmed * MIB,
            wake_seconds=wake_seconds,
            load_seconds=load_seconds,
            exit_seconds=exit_seconds,
        ),
    )


class Core:
    """Drives a controller. Timers are kept out of what ``send`` returns; see ``timer``."""

    def __init__(
        self,
        *models: Model,
        budget: int = 1000,
        slots: int = 4,
        policy: Policy = Policy.GDSF,
        releases_when_reaped: bool = True,
        host_cache: int = 0,
    ) -> None:
        """``budget`` and ``host_cache`` in MiB."""
        ledger = Ledger(
            budget=budget * MIB,
            keep_free=0,
            slots=slots,
            releases_when_reaped=releases_when_reaped,
            host_cache=host_cache * MIB,
        )
        self.controller = Controller(models, ledger, policy)
        self.now = 0.0
        self.timer: float | None = None
        self.workers: dict[str, int] = {}
        self.rejected: dict[int, str] = {}
        self._requests = 0

    @property
    def state(self) -> SchedulerState:
        """The controller's state."""
        return self.controller.state

    @property
    def draining(self) -> list[str]:
        """Models that take no new work, to make room for another."""
        return [m.name for m in self.state.models.values() if m.draining]

    def __getitem__(self, name: str) -> Model:
        """A model by name."""
        return self.state.models[name]

    def send(self, event: Event, at: float | None = None) -> Sequence[Command]:
        """One event; returns the commands without timers."""
        if at is not None:
            assert at >= self.now
            self.now = at
        commands = []
        for command in self.controller.handle(event, self.now):
            match command:
                case SetTimer(at=when):
                    self.timer = when
                    continue
                case PrewarmWorker(name, worker) | StartWorker(name, worker):
                    self.workers[name] = worker
                case Reject(request, rejection):
                    assert request not in self.rejected, "answered once"
                    self.rejected[request] = rejection.reason
                case _:
                    pass
            commands.append(command)
        invariants.check(self.state)
        return commands

    def ask(
        self,
        name: str,
        *,
        at: float | None = None,
        client: str = "",
        deadline: float | None = None,
        batch: int | None = None,
        units: int = 0,
        background: bool = False,
    ) -> int:
        """A request arrives; its id. The commands are in ``did``."""
        self._requests += 1
        self.did = self.send(RequestArrived(self._requests, name, client, deadline, batch, units, background), at)
        return self._requests

    def ready(self, name: str, *, at: float | None = None, seconds: float | None = None) -> Sequence[Command]:
        """The load of a model ends with what its footprint says."""
        footprint = self[name].footprint
        seconds = footprint.load_seconds.value if seconds is None else seconds
        host_copy = self.state.ledger.copies.get(self.workers[name], 0)
        event = WorkerReady(self.workers[name], footprint.idle.size, footprint.load.size, seconds, host_copy)
        return self.send(event, at)

    def slept(self, name: str, *, at: float | None = None, held: int | None = None) -> Sequence[Command]:
        """A model has fallen asleep, and holds what was expected or so many MiB."""
        expected = self[name].footprint.sleep_resident
        size = held * MIB if held is not None else expected.size if expected is not None else 0
        return self.send(Slept(self.workers[name], size, 0.1), at)

    def trimmed(self, name: str, *, at: float | None = None) -> Sequence[Command]:
        """A worker has given its caches back."""
        return self.send(Trimmed(self.workers[name]), at)

    def gone(self, name: str, *, at: float | None = None, **what: Any) -> Sequence[Command]:
        """A model's process is reaped."""
        seconds = 0.01 if self[name].state == "stopping" else 0.0
        return self.send(WorkerExited(self.workers[name], **{"seconds": seconds, **what}), at)

    def done(
        self, name: str, request: int, *, at: float | None = None, seconds: float = 0.1, used: int | None = None
    ) -> Sequence[Command]:
        """A run ends within what was reserved, or having used so many MiB."""
        return self.send(RequestFinished(request, self.workers[name], seconds, self._peak(name, used)), at)

    def gives_up(
        self, name: str, request: int, *, at: float | None = None, used: int | None = None
    ) -> Sequence[Command]:
        """The engine refuses a request, having used so many MiB for what ran."""
        peak = self._peak(name, used)
        return self.send(RequestFailed(request, self.workers[name], sent=False, peak=peak), at)

    def _peak(self, name: str, used: int | None) -> int:
        footprint = self[name].footprint
        return footprint.idle.size + (footprint.activation.size if used is None else used * MIB)

    def measured(
        self, *, at: float | None = None, foreign: int = 0, total: int = 1 << 20, **cached: int
    ) -> Sequence[Command]:
        """A reading: every model holds its idle bytes, or what stays asleep, plus what ``cached`` says (MiB)."""
        if at is not None:
            self.now = at
        accounts = self.state.ledger.accounts
        workers = {
            worker: (accounts[worker].idle if m.state == "sleeping" else m.footprint.idle.size)
            + cached.get(m.name, 0) * MIB
            for worker, m in self.state.workers.items()
            if m.state in {"ready", "sleeping"}
        }
        used = sum(workers.values()) + foreign * MIB
        return self.send(DeviceMeasured(self.now, total * MIB, total * MIB - used, workers))

    def ring(self) -> Sequence[Command]:
        """Time passes until the timer fires."""
        assert self.timer is not None, "nothing is due"
        at, self.timer = self.timer, None
        return self.send(TimerFired(), max(at, self.now))

    def bring(self, name: str, *, at: float | None = None) -> int:
        """A first request brings a model in and is answered; the model is idle then."""
        request = self.ask(name, at=at)
        assert f"start {name}#{self.workers[name]}" in brief(self.did)
        self.ready(name)
        self.done(name, request)
        self.measured(at=self.now + 0.001)
        return self.workers[name]


def two(**more: Any) -> Core:
    """Models a and b of which only one fits; a swap costs 1 s, patience 4, max_wait 30 s."""
    settings = {"load_seconds": 1.0, **more}
    return Core(model("a", **settings), model("b", **settings), budget=150)


def brief(commands: Sequence[Command]) -> list[str]:
    """Every command in a few words, without the reasons meant for people."""
    return [_brief(command) for command in commands]


def _brief(command: Command) -> str:
    match command:
        case PrewarmWorker(name, worker):
            return f"prewarm {name}#{worker}"
        case StartWorker(name, worker):
            return f"start {name}#{worker}"
        case StopWorker(name, worker, cause, _, kill):
            return f"{'kill' if kill else 'stop'} {name}#{worker}: {cause}"
        case SleepWorker(name, worker, cause):
            return f"sleep {name}#{worker}: {cause}"
        case WakeWorker(name, worker):
            return f"wake {name}#{worker}"
        case TrimWorker(name, worker):
            return f"trim {name}#{worker}"
        case Dispatch(name, worker, requests):
            return f"run {name}#{worker}: {' '.join(map(str, requests))}"
        case Cancel(request, worker):
            return f"cancel {request} on #{worker}"
        case Reject(request, rejection):
            return f"reject {request}: {rejection.reason}"
        case SetTimer(at):
            return f"timer {at}"
        case Halt():
            return "halt"
        case _:
            assert_never(command)
