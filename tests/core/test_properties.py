"""DESIGN section 7 over random histories: the shell is modelled by its outstanding commands."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cohabit.core import invariants
from cohabit.core.commands import (
    Cancel,
    Command,
    Dispatch,
    Halt,
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
    Event,
    LoadRequested,
    PinRequested,
    RequestArrived,
    RequestCancelled,
    RequestFailed,
    RequestFinished,
    ShutdownRequested,
    SleepRequested,
    Slept,
    Started,
    TimerFired,
    Trimmed,
    UnloadRequested,
    WorkerExited,
    WorkerReady,
)
from cohabit.core.eviction import Policy
from cohabit.core.footprints import Run
from cohabit.core.ledger import Ledger
from core.driver import MIB, model
from core.memory import LARGEST, Memory, Real

NAMES = ("a", "b", "c", "d")


class Thorough(Controller):
    """Asks all who wait at every event, whether or not anything has changed that might let one in."""

    def handle(self, event: Event, now: float) -> Sequence[Command]:
        """As the other, without the gate."""
        self.books.stirred = True
        return super().handle(event, now)


sizes = st.integers(20, 300)


@st.composite
def models(draw: st.DrawFn) -> list[dict[str, object]]:
    """Settings of a few models; some never fit, some are pinned."""
    return [
        {
            "name": name,
            "resident": draw(sizes),
            "working": draw(st.sampled_from([0, 1, 40, 70, 100])),
            "load": draw(sizes),
            "load_seconds": draw(st.sampled_from([0.1, 1.0, 5.0])),
            "concurrency": draw(st.integers(1, 3)),
            "max_batch": draw(st.integers(1, 3)),
            "slots": draw(st.integers(1, 2)),
            "priority": draw(st.sampled_from([1.0, 3.0])),
            "pin": draw(st.integers(0, 9)) == 0,
            "residue": draw(st.sampled_from([None, 5, 15])),
            "wake_seconds": draw(st.sampled_from([None, 0.1])),
            "preload": draw(st.integers(0, 4)) == 0,
            "keep_alive": draw(st.sampled_from([None, None, 3.0])),
            "max_wait": draw(st.sampled_from([2.0, 10.0])),
            "max_run": draw(st.sampled_from([20.0, 600.0])),
            "queue_limit": draw(st.sampled_from([2, 50])),
        }
        for name in NAMES[: draw(st.integers(1, 4))]
    ]


class Shell(RuleBasedStateMachine):
    """Keeps what it was told to do and answers in any order; its workers hold real memory."""

    @initialize(
        settings=models(),
        room=st.sampled_from([0.3, 0.5, 0.6, 0.8, 1.2]),
        policy=st.sampled_from(Policy),
        reaped=st.booleans(),
        keeps=st.sampled_from([0.0, 0.5, 1.0]),
        residue=st.sampled_from([0.2, 0.2, 0.9]),
        sized=st.booleans(),
    )
    def begin(
        self,
        *,
        settings: list[dict[str, object]],
        room: float,
        policy: Policy,
        reaped: bool,
        keeps: float,
        residue: float,
        sized: bool,
    ) -> None:
        self.sized = sized  # whether it is known what runs of each size take
        self.settings, self.policy, self.reaped, self.keeps, self.residue = settings, policy, reaped, keeps, residue
        peaks = [m.footprint.peak // MIB for m in (model(**one) for one in settings)]  # type: ignore[arg-type]  # drawn fields
        self.budget = max(int(room * sum(peaks)), max(peaks) - 5)  # some never fit, most take turns
        self.controller = self.fresh(Controller)
        self.thorough = self.fresh(Thorough)
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
        self.halted = False
        self.shutting_down = False
        self.send(Started())

    def fresh(self, kind: type[Controller]) -> Controller:
        made = [model(**settings) for settings in self.settings]  # type: ignore[arg-type]  # drawn fields
        for one in made if self.sized else ():
            working = one.footprint.working.size
            runs = (Run(units, working * units // LARGEST) for units in (1, 3, 8, 16, LARGEST))
            one.footprint.buckets = {(run.units - 1).bit_length(): run for run in runs}
        ledger = Ledger(budget=self.budget * MIB, keep_free=0, slots=2, releases_when_reaped=self.reaped)
        return kind(made, ledger, self.policy)

    # the shell

    def send(self, event: Event) -> None:
        books = self.controller.books
        pinned = {worker for worker, m in books.workers.items() if m.policy.pin}
        over_before = books.ledger.reserved > books.ledger.effective_budget
        self.broken = True  # until proven otherwise: a run that failed is not to be run out as well
        commands = list(self.controller.handle(event, self.now))
        pinned = {worker for worker in pinned if worker in books.workers and books.workers[worker].policy.pin}
        self.journal.append((event, self.now, list(commands)))
        thorough = self.thorough.handle(event, self.now)
        assert [c for c in commands if not isinstance(c, SetTimer)] == [
            c for c in thorough if not isinstance(c, SetTimer)
        ], "nobody is let in later than could be"
        for command in commands:
            self.carry_out(command, pinned)
        if not self.strangers:
            assert books.ledger.reserved <= books.ledger.budget, "no more is promised than there is"
            assert self.memory.ours <= books.ledger.budget, "and no more is taken"
            for worker, real in self.memory.workers.items():
                assert books.ledger.accounts[worker].held >= real.holds, "what a worker holds is booked"
            assert books.ledger.foreign == 0, "what is ours is not taken for a stranger's"
        reserving = [c for c in commands if isinstance(c, StartWorker | WakeWorker)]
        if over_before and not isinstance(
            event, DeviceMeasured | RequestFinished | RequestFailed | WorkerExited | WorkerReady | Slept
        ):
            assert not reserving, "no new reservation while over the budget"
        invariants.check(books)
        self.broken = False

    def carry_out(self, command: Command, pinned: set[int]) -> None:
        """Note what the shell is to do, if it may be asked to."""
        books = self.controller.books
        match command:
            case StartWorker(name, worker):
                assert worker not in self.live
                assert name not in self.live.values(), "one worker a model"
                self.live[worker] = name
                self.begins(name, worker)
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
            case SleepWorker(_, worker, cause):
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
                overlap = books.models[name].policy.concurrency > 1
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

    def begins(self, name: str, worker: int) -> None:
        """A load or a wake."""
        books = self.controller.books
        footprint = books.models[name].footprint
        assert books.ledger.accounts[worker].held >= footprint.load.size, "a load is reserved before it starts"
        self.starting[worker] = name
        before = self.memory.workers.get(worker)
        working = footprint.working.size if before is None else before.working
        resident = footprint.resident.size
        residue = int(resident * self.residue)
        self.memory.workers[worker] = Real(footprint.load.size, resident, working, residue, self.keeps)

    def may_leave(self, worker: int, pinned: set[int], cause: StopCause) -> None:
        """Whether a worker may be told to leave for others."""
        assert not self.busy(worker), "a busy model is never evicted"
        assert worker not in pinned, "a pinned model is never evicted"
        assert worker not in self.starting, "a starting model is never evicted"
        if cause is StopCause.EVICTED:
            served = self.running.keys() | self.ended.keys()
            waits = {name for request, name in self.asked.items() if request not in served}
            waits |= {m.name for m in self.controller.books.models.values() if m.wanted_since is not None}
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

    def exits(self, worker: int, **what: Any) -> None:
        """An event of its own for a worker that is gone."""
        self.leaves(worker)
        self.send(WorkerExited(worker, **what))

    def comes_in(self, worker: int) -> None:
        """A load or a wake ends well."""
        del self.starting[worker]
        real = self.memory.workers[worker]
        real.phase = "ready"
        self.send(WorkerReady(worker, real.resident, real.load, 0.5))

    def falls_asleep(self, worker: int) -> None:
        del self.sleeping[worker]
        self.asleep.add(worker)
        real = self.memory.workers[worker]
        real.phase, real.kept = "asleep", 0
        self.send(Slept(worker, real.residue, 0.1))

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

    # what may happen

    @rule(
        which=st.integers(0, 40),
        client=st.sampled_from("xyz"),
        limit=st.sampled_from([None, None, None, None, 1.0, 30.0]),
        how_many=st.integers(1, 4),
        together=st.sampled_from([False, False, True]),
        units=st.sampled_from([0, 1, 3, 8]),
        background=st.sampled_from([False, False, True]),
    )
    def arrive(
        self,
        *,
        which: int,
        client: str,
        limit: float | None,
        how_many: int,
        together: bool,
        units: int,
        background: bool,
    ) -> None:
        """A few at once: of one model, or of several in one batch."""
        batch = self.count if together else None
        for number in range(how_many):
            chosen = which + number if together else which
            name = "nobody" if which == 40 else str(self.settings[chosen % len(self.settings)]["name"])
            self.count += 1
            self.asked[self.count] = name
            self.units[self.count] = units
            deadline = None if limit is None else self.now + limit
            self.send(RequestArrived(self.count, name, client, deadline, batch, units, background))

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def client_leaves(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(sorted(self.asked)))
        self.end(request, "left")
        self.send(RequestCancelled(request))

    @precondition(lambda self: self.starting.keys() - self.stopping.keys())
    @rule(data=st.data())
    def load_ends(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.starting.keys() - self.stopping.keys())))
        self.now += 0.1
        self.comes_in(worker)

    @precondition(lambda self: self.sleeping.keys() - self.stopping.keys())
    @rule(data=st.data())
    def sleep_ends(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.sleeping.keys() - self.stopping.keys())))
        self.now += 0.1
        self.falls_asleep(worker)

    @precondition(lambda self: self.trimming)
    @rule(data=st.data())
    def trim_ends(self, data: st.DataObject) -> None:
        self.is_trimmed(data.draw(st.sampled_from(sorted(self.trimming))))

    @precondition(lambda self: self.stopping)
    @rule(data=st.data())
    def stop_ends(self, data: st.DataObject) -> None:
        self.now += 0.05
        self.exits(data.draw(st.sampled_from(sorted(self.stopping))), seconds=0.2)

    @precondition(lambda self: self.memory.lingering)
    @rule()
    def memory_returns(self) -> None:
        self.memory.lingering.pop()

    @precondition(lambda self: self.live and self.count % 5 == 0)
    @rule(data=st.data(), permanent=st.integers(0, 5), oom=st.booleans())
    def worker_dies(self, data: st.DataObject, permanent: int, oom: bool) -> None:
        worker = data.draw(st.sampled_from(sorted(self.live)))
        asked = worker in self.stopping
        sent = frozenset(r for r, w in self.running.items() if w == worker and data.draw(st.booleans()))
        self.exits(
            worker,
            seconds=0.2 if asked else 0.0,
            sent=sent,
            out_of_memory=oom,
            permanent=permanent == 0 and not asked,
        )

    @precondition(lambda self: self.running)
    @rule(data=st.data(), seconds=st.sampled_from([0.01, 0.3, 4.0]), failed=st.integers(0, 12))
    def run_ends(self, data: st.DataObject, seconds: float, failed: int) -> None:
        request = data.draw(st.sampled_from(sorted(self.running)))
        self.now += seconds
        if failed > 1:
            self.answers(request, seconds)
            return
        worker = self.running.pop(request)
        if not self.busy(worker):
            self.memory.workers[worker].end()
        self.send(RequestFailed(request, worker, sent=False, out_of_memory=failed == 1))

    @rule(
        foreign=st.sampled_from([None, None, None, None, None, None, None, None, 0, 3600, 4000]),
        loaded=st.sampled_from([0.0, 0.5, 1.0]),
    )
    def measure(self, foreign: int | None, loaded: float) -> None:
        """Strangers come and go."""
        if foreign is not None:
            self.memory.foreign = foreign * MIB
            self.strangers |= foreign > 0
        self.reads(loaded)

    def reads(self, loaded: float = 1.0) -> None:
        self.now += 0.001
        self.send(DeviceMeasured(self.now, *self.memory.reading(loaded)))

    @precondition(lambda self: self.timer is not None)
    @rule()
    def timer_fires(self) -> None:
        assert self.timer is not None
        self.now, self.timer = max(self.now, self.timer), None
        self.send(TimerFired())

    @rule(seconds=st.sampled_from([0.01, 1.0, 7.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        while self.timer is not None and self.timer <= self.now:
            self.timer = None
            self.send(TimerFired())

    @rule(
        which=st.integers(0, 3),
        what=st.sampled_from(
            [LoadRequested, LoadRequested, SleepRequested, UnloadRequested, partial(PinRequested, pinned=False)]
        ),
    )
    def owner_asks(self, which: int, what: Callable[[str], Event]) -> None:
        self.send(what(str(self.settings[which % len(self.settings)]["name"])))

    @precondition(lambda self: self.count > 20)
    @rule(which=st.integers(0, 3))
    def owner_pins(self, which: int) -> None:
        self.send(PinRequested(str(self.settings[which % len(self.settings)]["name"]), pinned=True))

    @precondition(lambda self: self.count > 60 and not self.shutting_down)
    @rule()
    def shut_down(self) -> None:
        self.shutting_down = True
        self.send(ShutdownRequested(drain=5.0))

    # what must hold

    @property
    def outstanding(self) -> bool:
        """Whether any command has not been answered."""
        return bool(self.starting or self.stopping or self.sleeping or self.trimming or self.running)

    @invariant()
    def somebody_will_act(self) -> None:
        """A non-empty queue implies an outstanding command or timer."""
        if not hasattr(self, "controller"):
            return
        books = self.controller.books
        waiting = any(m.queue for m in books.models.values())
        # the shell reads the device after each run, and goes on reading it while memory is to come back
        reading = any(account.unconfirmed for account in books.ledger.accounts.values()) or books.ledger.unreturned
        assert self.outstanding or self.timer is not None or reading or not waiting

    @invariant()
    def every_request_is_known(self) -> None:
        """What its client waits for, the core still has."""
        if hasattr(self, "controller"):
            assert self.asked.keys() <= self.controller.books.requests.keys()

    def teardown(self) -> None:
        """Let everything run out: every request ends, in bounded time, and a replay decides the same."""
        if not hasattr(self, "controller") or self.broken:
            return
        self.memory.foreign = 0
        began, accepted = self.now, len(self.ended) + len(self.asked)
        self.settle()
        for _ in range(2000):
            if not self.asked and not self.outstanding:
                break
            self.step()
            self.settle()
        assert not self.asked, f"never answered: {self.asked}"
        assert not self.running
        assert self.now - began < (accepted + 10) * 70.0, "waiting is bounded"
        again = self.fresh(Controller)
        for number, (event, now, commands) in enumerate(self.journal):
            decided = list(again.handle(event, now))
            assert decided == commands, f"a replay decides the same, here event {number}: {event}"

    def settle(self) -> None:
        """A reading after things have moved, and what the dead held is back."""
        self.memory.lingering.clear()
        self.reads()

    def step(self) -> None:
        """Whatever is outstanding comes to its end, oldest first."""
        self.now += 0.2
        if self.stopping:
            self.exits(next(iter(self.stopping)), seconds=0.1)
        elif self.sleeping:
            self.falls_asleep(next(iter(self.sleeping)))
        elif self.trimming:
            self.is_trimmed(next(iter(self.trimming)))
        elif self.starting:
            self.comes_in(next(iter(self.starting)))
        elif self.running:
            self.answers(next(iter(self.running)), 0.2)
        else:
            assert self.timer is not None, "nothing outstanding, nothing due"
            self.timer_fires()


TestShell = Shell.TestCase
TestShell.pytestmark = [pytest.mark.timeout(600)]  # type: ignore[attr-defined]  # shrinking a failure takes long
