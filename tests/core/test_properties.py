"""DESIGN section 7 over random histories: the shell is modelled by its outstanding commands."""

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cohabit.core import invariants
from cohabit.core.commands import Cancel, Dispatch, Halt, Reject, SetTimer, StartWorker, StopCause, StopWorker
from cohabit.core.controller import Controller
from cohabit.core.events import (
    DeviceMeasured,
    Event,
    RequestArrived,
    RequestCancelled,
    RequestFailed,
    RequestFinished,
    ShutdownRequested,
    Started,
    TimerFired,
    WorkerExited,
    WorkerReady,
)
from cohabit.core.eviction import Policy
from cohabit.core.ledger import Ledger
from core.driver import MIB, model

NAMES = ("a", "b", "c", "d")
TOTAL = 4096 * MIB

sizes = st.integers(20, 300)


@st.composite
def models(draw: st.DrawFn) -> list[dict[str, object]]:
    """Settings of a few models; some never fit, some are pinned."""
    return [
        {
            "name": name,
            "resident": draw(sizes),
            "working": draw(st.integers(1, 100)),
            "load": draw(sizes),
            "load_seconds": draw(st.sampled_from([0.1, 1.0, 5.0])),
            "concurrency": draw(st.integers(1, 3)),
            "max_batch": draw(st.integers(1, 3)),
            "slots": draw(st.integers(1, 2)),
            "priority": draw(st.sampled_from([1.0, 3.0])),
            "pin": draw(st.integers(0, 9)) == 0,
            "preload": draw(st.integers(0, 4)) == 0,
            "keep_alive": draw(st.sampled_from([None, None, 3.0])),
            "max_wait": draw(st.sampled_from([2.0, 10.0])),
            "max_run": draw(st.sampled_from([20.0, 600.0])),
            "queue_limit": draw(st.sampled_from([2, 50])),
        }
        for name in NAMES[: draw(st.integers(1, 4))]
    ]


class Shell(RuleBasedStateMachine):
    """Keeps what it was told to do and answers in any order."""

    @initialize(settings=models(), room=st.sampled_from([0.3, 0.5, 0.6, 0.8, 1.2]), policy=st.sampled_from(Policy))
    def begin(self, settings: list[dict[str, object]], room: float, policy: Policy) -> None:
        self.settings, self.policy = settings, policy
        peaks = [m.footprint.peak // MIB for m in (model(**one) for one in settings)]  # type: ignore[arg-type]  # drawn fields
        self.budget = max(int(room * sum(peaks)), max(peaks) - 5)  # some never fit, most take turns
        self.controller = self.fresh()
        self.journal: list[tuple[Event, float, list[object]]] = []
        self.now = 0.0
        self.timer: float | None = None
        self.starting: dict[int, str] = {}
        self.stopping: dict[int, str] = {}
        self.live: dict[int, str] = {}
        self.running: dict[int, int] = {}  # request -> worker, as the shell was told
        self.asked: dict[int, str] = {}  # accepted and not yet ended for its client
        self.ended: dict[int, str] = {}
        self.arrived_at: dict[int, float] = {}
        self.foreign = 0
        self.count = 0
        self.halted = False
        self.shutting_down = False
        self.send(Started())

    def fresh(self) -> Controller:
        made = [model(**settings) for settings in self.settings]  # type: ignore[arg-type]  # drawn fields
        return Controller(made, Ledger(budget=self.budget * MIB, keep_free=0, slots=2), self.policy)

    # the shell

    def send(self, event: Event) -> None:
        books = self.controller.books
        pinned = {worker for worker, m in books.workers.items() if m.policy.pin}
        over_before = books.ledger.reserved > books.ledger.effective_budget
        self.broken = True  # until proven otherwise: a run that failed is not to be run out as well
        commands = list(self.controller.handle(event, self.now))
        self.journal.append((event, self.now, list(commands)))
        busy = {worker for worker, m in books.workers.items() if m.busy}
        for command in commands:
            match command:
                case StartWorker(name, worker):
                    assert worker not in self.live
                    assert name not in self.live.values(), "one worker a model"
                    assert books.ledger.accounts[worker].held > 0, "a load is reserved before it starts"
                    self.starting[worker] = self.live[worker] = name
                case StopWorker(_, worker, cause, _, kill):
                    assert worker in self.live
                    assert worker not in self.stopping, "stopped once"
                    if cause in {StopCause.EVICTED, StopCause.OVER_BUDGET}:
                        assert worker not in busy, "a busy model is never evicted"
                        assert worker not in pinned, "a pinned model is never evicted"
                        assert worker not in self.starting, "a starting model is never evicted"
                    assert kill or worker not in busy
                    self.stopping[worker] = self.live[worker]
                case Dispatch(name, worker, requests):
                    assert self.live[worker] == name
                    assert worker not in self.starting
                    assert worker not in self.stopping, "a victim is never resurrected"
                    for request in requests:
                        assert request not in self.running, "given out once"
                        assert request in self.asked, "only for a client that waits"
                        self.running[request] = worker
                case Cancel(request, worker):
                    assert self.running[request] == worker
                case Reject(request, rejection):
                    self.end(request, rejection.reason)
                case SetTimer(at):
                    self.timer = at
                case Halt():
                    assert not self.halted
                    self.halted = True
        reserving = [c for c in commands if isinstance(c, StartWorker)]
        if reserving and not self.foreign:
            assert books.ledger.reserved <= books.ledger.budget
        if over_before and not isinstance(
            event, DeviceMeasured | RequestFinished | RequestFailed | WorkerExited | WorkerReady
        ):
            assert not reserving, "no new reservation while over the budget"
        invariants.check(books)
        self.broken = False

    def end(self, request: int, how: str) -> None:
        assert request not in self.ended, f"request {request} ended as {self.ended.get(request)} and as {how}"
        self.ended[request] = how
        self.asked.pop(request, None)

    def leaves(self, worker: int) -> None:
        """The process is gone."""
        del self.live[worker]
        self.starting.pop(worker, None)
        self.stopping.pop(worker, None)
        for request in [r for r, w in self.running.items() if w == worker]:
            del self.running[request]

    # what may happen

    @rule(
        which=st.integers(0, 40),
        client=st.sampled_from("xyz"),
        limit=st.sampled_from([None, None, None, None, 1.0, 30.0]),
        how_many=st.integers(1, 4),
        together=st.sampled_from([False, False, True]),
    )
    def arrive(self, which: int, client: str, limit: float | None, how_many: int, together: bool) -> None:
        """A few at once: of one model, or of several in one batch."""
        batch = self.count if together else None
        for number in range(how_many):
            chosen = which + number if together else which
            name = "nobody" if which == 40 else self.settings[chosen % len(self.settings)]["name"]
            self.arrives(str(name), client, limit, batch)

    def arrives(self, name: str, client: str, limit: float | None, batch: int | None) -> None:
        self.count += 1
        self.asked[self.count] = name
        self.arrived_at[self.count] = self.now
        deadline = None if limit is None else self.now + limit
        self.send(RequestArrived(self.count, name, client, deadline, batch))

    @precondition(lambda self: self.asked)
    @rule(data=st.data())
    def client_leaves(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(sorted(self.asked)))
        self.end(request, "left")
        self.send(RequestCancelled(request))

    @precondition(lambda self: self.starting.keys() - self.stopping.keys())
    @rule(data=st.data(), more=st.sampled_from([0, 0, 5]))
    def load_ends(self, data: st.DataObject, more: int) -> None:
        worker = data.draw(st.sampled_from(sorted(self.starting.keys() - self.stopping.keys())))
        footprint = self.controller.books.models[self.starting.pop(worker)].footprint
        resident = footprint.resident.size + (more * MIB if self.foreign else 0)
        self.now += 0.1
        self.send(WorkerReady(worker, resident, footprint.load.size, 0.5))

    @precondition(lambda self: self.stopping)
    @rule(data=st.data())
    def stop_ends(self, data: st.DataObject) -> None:
        worker = data.draw(st.sampled_from(sorted(self.stopping)))
        self.leaves(worker)
        self.now += 0.05
        self.send(WorkerExited(worker, seconds=0.2))

    @precondition(lambda self: self.live and self.count % 5 == 0)
    @rule(data=st.data(), permanent=st.integers(0, 5), oom=st.booleans())
    def worker_dies(self, data: st.DataObject, permanent: int, oom: bool) -> None:
        worker = data.draw(st.sampled_from(sorted(self.live)))
        asked = worker in self.stopping
        sent = frozenset(r for r, w in self.running.items() if w == worker and data.draw(st.booleans()))
        self.leaves(worker)
        self.send(
            WorkerExited(
                worker,
                seconds=0.2 if asked else 0.0,
                sent=sent,
                out_of_memory=oom,
                permanent=permanent == 0 and not asked,
            )
        )

    @precondition(lambda self: self.running)
    @rule(data=st.data(), seconds=st.sampled_from([0.01, 0.3, 4.0]), failed=st.integers(0, 12))
    def run_ends(self, data: st.DataObject, seconds: float, failed: int) -> None:
        request = data.draw(st.sampled_from(sorted(self.running)))
        worker = self.running.pop(request)
        footprint = self.controller.books.models[self.live[worker]].footprint
        self.now += seconds
        if failed <= 1:
            self.send(RequestFailed(request, worker, sent=False, out_of_memory=failed == 1))
            return
        if request not in self.ended:
            self.end(request, "answered")
        self.send(RequestFinished(request, worker, seconds, footprint.resident.size + footprint.working.size))

    @rule(foreign=st.sampled_from([None, None, None, None, None, None, 0, 0, 3600, 4000]))
    def measure(self, foreign: int | None) -> None:
        """Honest workers hold what the books say; strangers come and go."""
        if foreign is not None:
            self.foreign = foreign * MIB
        accounts = self.controller.books.ledger.accounts
        workers = {w: (accounts[w].load or accounts[w].resident + accounts[w].working) for w in self.live}
        used = min(TOTAL, sum(workers.values()) + self.foreign)
        self.send(DeviceMeasured(self.now, TOTAL, TOTAL - used, workers))

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

    @precondition(lambda self: self.count > 60 and not self.shutting_down)
    @rule()
    def shut_down(self) -> None:
        self.shutting_down = True
        self.send(ShutdownRequested(drain=5.0))

    # what must hold

    @invariant()
    def somebody_will_act(self) -> None:
        """A non-empty queue implies an outstanding command or timer."""
        if not hasattr(self, "controller"):
            return
        waiting = any(m.queue for m in self.controller.books.models.values())
        accounts = self.controller.books.ledger.accounts.values()
        reading = any(account.unconfirmed for account in accounts)  # the shell reads the device after each run
        outstanding = self.starting or self.stopping or self.running or self.timer is not None or reading
        assert outstanding or not waiting

    @invariant()
    def every_request_is_known(self) -> None:
        """What its client waits for, the core still has."""
        if hasattr(self, "controller"):
            assert self.asked.keys() <= self.controller.books.requests.keys()

    def teardown(self) -> None:
        """Let everything run out: every request ends, in bounded time, and a replay decides the same."""
        if not hasattr(self, "controller") or self.broken:
            return
        self.foreign = 0
        began = self.now
        self.settle()
        for _ in range(2000):
            if not self.asked and not self.starting and not self.stopping and not self.running:
                break
            self.step()
            self.settle()
        assert not self.asked, f"never answered: {self.asked}"
        assert not self.running
        serving = len(self.ended) + 10
        assert self.now - began < serving * 70.0, "waiting is bounded"
        again = self.fresh()
        for number, (event, now, commands) in enumerate(self.journal):
            decided = list(again.handle(event, now))
            assert decided == commands, f"a replay decides the same, here event {number}: {event}"

    def settle(self) -> None:
        """A reading after things have moved, with what is really there."""
        accounts = self.controller.books.ledger.accounts
        workers = {w: (accounts[w].load or accounts[w].resident + accounts[w].working) for w in self.live}
        self.now += 0.001
        self.send(DeviceMeasured(self.now, TOTAL, TOTAL - sum(workers.values()), workers))

    def step(self) -> None:
        """Whatever is outstanding comes to its end, oldest first."""
        if self.stopping:
            worker = next(iter(self.stopping))
            self.leaves(worker)
            self.now += 0.1
            self.send(WorkerExited(worker, seconds=0.1))
        elif self.starting:
            worker, name = next(iter(self.starting.items()))
            del self.starting[worker]
            footprint = self.controller.books.models[name].footprint
            self.now += 0.5
            self.send(WorkerReady(worker, footprint.resident.size, footprint.load.size, 0.5))
        elif self.running:
            request, worker = next(iter(self.running.items()))
            del self.running[request]
            if request not in self.ended:
                self.end(request, "answered")
            self.now += 0.2
            self.send(RequestFinished(request, worker, 0.2, 0))
        else:
            assert self.timer is not None, "nothing outstanding, nothing due"
            self.timer_fires()


TestShell = Shell.TestCase
TestShell.pytestmark = [pytest.mark.timeout(600)]  # type: ignore[attr-defined]  # shrinking a failure takes long
