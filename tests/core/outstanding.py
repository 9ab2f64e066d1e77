"""What the core told the shell to do and has not been answered, on workers that hold real memory."""

from typing import Any

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
    StopCause,
    StopWorker,
    TrimWorker,
    WakeWorker,
)
from cohabit.core.controller import Controller
from cohabit.core.events import (
    DeviceMeasured,
    DeviceUnreadable,
    Event,
    RequestFailed,
    RequestFinished,
    Slept,
    Started,
    Trimmed,
    WorkerExited,
    WorkerReady,
)
from cohabit.core.eviction import Policy
from cohabit.core.footprints import MeasuredRun
from cohabit.core.host_offload import host_copy_bytes
from cohabit.core.ledger import Ledger
from cohabit.core.memory_limits import memory_limits
from core.driver import MIB, model
from core.memory import LARGEST, Memory, Real


class Outstanding:
    """Keeps what it was told to do, if it may be asked to; answers when it is told that something has ended."""

    def begin(
        self,
        *,
        settings: list[dict[str, object]],
        room: float,
        policy: Policy,
        reaped: bool,
        keeps: float,
        sleep_resident: float,
        sized: bool,
        host: int,
    ) -> None:
        self.host = host  # MiB for copies
        self.sized = sized  # whether it is known what runs of each size take
        self.settings, self.policy, self.reaped = settings, policy, reaped
        self.keeps, self.sleep_resident = keeps, sleep_resident
        peaks = [m.footprint.peak // MIB for m in (model(**one) for one in settings)]  # type: ignore[arg-type]  # drawn fields
        self.budget = max(int(room * sum(peaks)), max(peaks) - 5)  # some never fit, most take turns
        self.controller = self.fresh()
        self.journal: list[tuple[Event, float, list[object]]] = []
        self.now = 0.0
        self.timer: float | None = None
        self.memory = Memory()
        self.live: dict[int, str] = {}
        self.starting: dict[int, str] = {}  # or waking
        self.stopping: dict[int, str] = {}
        self.sleeping: dict[int, str] = {}  # told to fall asleep
        self.asleep: set[int] = set()
        self.trimming: dict[int, str] = {}
        self.running: dict[int, int] = {}  # request -> worker, as the shell was told
        self.units: dict[int, int] = {}
        self.asked: dict[int, str] = {}  # accepted and not yet ended for its client
        self.ended: dict[int, str] = {}
        self.count = 0
        self.strangers = False  # have there been any
        self.unreadable = False
        self.greedy = False  # has any worker taken more than it was given
        self.halted = False
        self.shutting_down = False
        self.send(Started())

    def fresh(self) -> Controller:
        made = [model(**settings) for settings in self.settings]  # type: ignore[arg-type]  # drawn fields
        for one in made if self.sized else ():
            activation = one.footprint.activation.size
            runs = (MeasuredRun(units, activation * units // LARGEST) for units in (1, 3, 8, 16, LARGEST))
            one.footprint.buckets = {(run.units - 1).bit_length(): run for run in runs}
        ledger = Ledger(
            budget=self.budget * MIB,
            keep_free=0,
            slots=2,
            releases_when_reaped=self.reaped,
            host_cache=self.host * MIB,
        )
        return Controller(made, ledger, self.policy)

    def send(self, event: Event) -> None:
        state = self.controller.state
        pinned = {worker for worker, m in state.workers.items() if m.policy.pin}
        over_before = state.ledger.reserved > state.ledger.effective_budget
        self.broken = True  # until proven otherwise: a run that failed is not to be run out as well
        commands = list(self.controller.handle(event, self.now))
        pinned = {worker for worker in pinned if worker in state.workers and state.workers[worker].policy.pin}
        self.journal.append((event, self.now, list(commands)))
        for command in commands:
            self.carry_out(command, pinned)
        self.guarded()
        if not self.strangers:
            if not self.greedy:
                assert state.ledger.reserved <= state.ledger.budget, "no more is promised than there is"
            assert self.memory.ours <= state.ledger.budget, "and no more is taken"
            allowed = memory_limits(state)
            for worker, real in self.memory.workers.items():
                may = allowed.limit(worker) if self.greedy else state.ledger.accounts[worker].held
                assert may >= real.holds, "what a worker holds is reserved, or within what is free"
            assert self.greedy or state.ledger.foreign == 0, "what is ours is not taken for a stranger's"
        copies = sum(real.host_copy for real in self.memory.workers.values())
        assert copies == state.ledger.copied <= state.ledger.host_cache, "copies take no more than they may"
        reserving = [c for c in commands if isinstance(c, PrewarmWorker | StartWorker | WakeWorker)]
        if isinstance(event, DeviceMeasured | DeviceUnreadable):
            self.unreadable = isinstance(event, DeviceUnreadable)
        assert not (self.unreadable and reserving), "nothing is brought in while the device cannot be read"
        if over_before and not isinstance(
            event, DeviceMeasured | RequestFinished | RequestFailed | WorkerExited | WorkerReady | Slept
        ):
            assert not reserving, "no new reservation while over the budget"
        invariants.check(state)
        self.broken = False

    def guarded(self) -> None:
        """A worker that holds more than is reserved and free is ended at once."""
        if self.greedy:
            allowed = memory_limits(self.controller.state)
            worker = allowed.exceeding({worker: real.holds for worker, real in self.memory.workers.items()})
            if worker is not None:
                sent = frozenset(
                    request for request, where in self.running.items() if where == worker and request % 2
                )
                real = self.memory.workers[worker]
                held = min(real.holds, allowed.limit(worker) + 1)
                real.more -= real.holds - min(held, allowed.limit(worker))  # it is ended before it has taken more
                seconds = 0.2 if worker in self.stopping else 0.0
                self.reclaims(worker, seconds=seconds, exceeded=held, out_of_memory=True, sent=sent)

    def carry_out(self, command: Command, pinned: set[int]) -> None:
        """Note what the shell is to do, if it may be asked to."""
        state = self.controller.state
        match command:
            case PrewarmWorker(name, worker):
                self.spawns(name, worker)
            case StartWorker(name, worker, keep_copy):
                self.starts(name, worker, keep_copy=keep_copy)
            case WakeWorker(name, worker):
                assert worker in self.asleep
                self.asleep.remove(worker)
                self.begins(name, worker)
            case StopWorker(_, worker, cause, _, kill):
                assert worker in self.live
                assert worker not in self.stopping, "stopped once"
                if cause in {StopCause.EVICTED, StopCause.OVER_BUDGET}:
                    self.may_leave(worker, pinned, cause)
                assert kill or not self.busy(worker)
                self.stopping[worker] = self.live[worker]
            case SleepWorker(name, worker, cause):
                copied = self.memory.workers[worker].host_copy > 0 or not state.models[name].policy.copies
                assert copied, "no model sleeps that could not wake"
                self.may_leave(worker, pinned, cause)
                assert worker not in self.stopping
                assert worker not in self.asleep
                self.sleeping[worker] = self.live[worker]
            case TrimWorker(_, worker):
                assert not self.busy(worker), "only what is idle is trimmed"
                assert worker not in self.trimming
                self.trimming[worker] = self.live[worker]
            case Dispatch(name, worker, requests):
                assert self.live[worker] == name
                assert self.memory.workers[worker].phase == "ready", "a victim is never resurrected"
                assert worker not in {**self.starting, **self.stopping, **self.sleeping, **self.trimming}
                for request in requests:
                    assert request not in self.running, "given out once"
                    assert request in self.asked, "only for a client that waits"
                    self.running[request] = worker
                overlap = state.models[name].policy.concurrency > 1
                longest = max(self.units[request] for request in requests)
                unknown = overlap or any(not self.units[request] for request in requests)
                self.memory.workers[worker].begin(0 if unknown else longest * len(requests))
            case Cancel(request, worker):
                assert self.running[request] == worker
            case Reject(request, rejection):
                self.end(request, rejection.reason)
            case SetTimer(at):
                self.timer = at
            case Halt():
                assert not self.halted
                self.halted = True

    def spawns(self, name: str, worker: int) -> None:
        """A bare process, or one that loads at once."""
        assert worker not in self.live
        assert name not in self.live.values(), "one worker a model"
        self.live[worker] = name
        prewarmed = self.controller.state.models[name].footprint.prewarmed
        self.memory.workers[worker] = Real(0, 0, 0, 0, 0, prewarmed=prewarmed or 0, phase="prewarmed")

    def starts(self, name: str, worker: int, *, keep_copy: bool) -> None:
        """A load, in its own process or a new one, and what it will hold of both memories."""
        if worker not in self.live:
            self.spawns(name, worker)
        assert self.live[worker] == name
        assert worker not in self.stopping
        assert self.memory.workers[worker].phase == "prewarmed"
        self.begins(name, worker)
        if keep_copy:
            self.memory.workers[worker].host_copy = host_copy_bytes(self.controller.state.models[name])

    def begins(self, name: str, worker: int) -> None:
        """A load or a wake."""
        state = self.controller.state
        footprint = state.models[name].footprint
        assert state.ledger.accounts[worker].held >= footprint.load.size, "a load is reserved before it starts"
        self.starting[worker] = name
        before = self.memory.workers[worker]
        host_copy, prewarmed = before.host_copy, before.prewarmed
        activation = footprint.activation.size if before.phase == "prewarmed" else before.activation
        idle = footprint.idle.size
        sleep_resident = int(idle * self.sleep_resident)
        self.memory.workers[worker] = Real(
            footprint.load.size, idle, activation, sleep_resident, self.keeps, host_copy, prewarmed
        )

    def may_leave(self, worker: int, pinned: set[int], cause: StopCause) -> None:
        """Whether a worker may be told to leave for others."""
        assert not self.busy(worker), "a busy model is never evicted"
        assert worker not in pinned, "a pinned model is never evicted"
        assert worker not in self.starting, "a starting model is never evicted"
        if cause is StopCause.EVICTED:
            served = self.running.keys() | self.ended.keys()
            waits = {name for request, name in self.asked.items() if request not in served}
            waits |= {m.name for m in self.controller.state.models.values() if m.load_requested_at is not None}
            assert waits - {self.live[worker]}, "nobody leaves for a client that has left"

    def busy(self, worker: int) -> bool:
        return worker in self.running.values()

    def end(self, request: int, how: str) -> None:
        assert request not in self.ended, f"request {request} ended as {self.ended.get(request)} and as {how}"
        self.ended[request] = how
        self.asked.pop(request, None)

    def leaves(self, worker: int) -> None:
        """The process is gone; on a card its memory may be seen a little longer."""
        for place in (self.live, self.starting, self.stopping, self.sleeping, self.trimming):
            place.pop(worker, None)
        self.asleep.discard(worker)
        real = self.memory.workers.pop(worker)
        if not self.reaped:
            self.memory.lingering.append(real.holds)
        for request in [r for r, w in self.running.items() if w == worker]:
            del self.running[request]

    def reclaims(self, worker: int, **what: Any) -> None:
        """An event of its own for a worker that is gone."""
        self.leaves(worker)
        self.send(WorkerExited(worker, **what))

    def comes_in(self, worker: int) -> None:
        """A load or a wake ends well."""
        del self.starting[worker]
        real = self.memory.workers[worker]
        real.phase = "ready"
        self.send(WorkerReady(worker, real.idle, real.load, 0.5, real.host_copy, real.prewarmed))

    def falls_asleep(self, worker: int) -> None:
        del self.sleeping[worker]
        self.asleep.add(worker)
        real = self.memory.workers[worker]
        real.phase, real.kept = "sleeping", 0
        self.send(Slept(worker, real.sleep_resident, 0.1))

    def is_trimmed(self, worker: int) -> None:
        del self.trimming[worker]
        self.memory.workers[worker].kept //= 4
        self.send(Trimmed(worker))

    def answers(self, request: int, seconds: float) -> None:
        """A run ends well, for whoever still waits."""
        worker = self.running.pop(request)
        real = self.memory.workers[worker]
        peak = real.peak
        if not self.busy(worker):
            real.end()
        if request not in self.ended:
            self.end(request, "answered")
        self.send(RequestFinished(request, worker, seconds, peak))
