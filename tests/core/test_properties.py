"""DESIGN section 7 over random histories: the shell is modelled by its outstanding commands."""

from collections.abc import Callable
from functools import partial
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from cohabit.core.events import (
    DeviceMeasured,
    DeviceUnreadable,
    Event,
    LoadRequested,
    PinRequested,
    RequestArrived,
    RequestCancelled,
    RequestFailed,
    ShutdownRequested,
    SleepRequested,
    TimerFired,
    UnloadRequested,
)
from cohabit.core.eviction import Policy
from core.driver import MIB
from core.outstanding import Outstanding

NAMES = ("a", "b", "c", "d")
sizes = st.integers(20, 300)


@st.composite
def models(draw: st.DrawFn) -> list[dict[str, object]]:
    """Settings of a few models; some never fit, some are pinned."""
    return [
        {
            "name": name,
            "idle": draw(sizes),
            "activation": draw(st.sampled_from([0, 1, 40, 70, 100])),
            "load": draw(sizes),
            "load_seconds": draw(st.sampled_from([0.1, 1.0, 5.0])),
            "concurrency": draw(st.integers(1, 3)),
            "max_batch": draw(st.integers(1, 3)),
            "slots": draw(st.integers(1, 2)),
            "priority": draw(st.sampled_from([1.0, 3.0])),
            "pin": draw(st.integers(0, 9)) == 0,
            "sleep_resident": draw(st.sampled_from([None, 5, 15])),
            "prewarmed": draw(st.sampled_from([None, 0, 10])),
            "host_copy": draw(st.sampled_from([None, None, 60, 100])),
            "wake_seconds": draw(st.sampled_from([None, 0.1])),
            "preload": draw(st.integers(0, 4)) == 0,
            "keep_alive": draw(st.sampled_from([None, None, 3.0])),
            "max_wait": draw(st.sampled_from([2.0, 10.0])),
            "max_run": draw(st.sampled_from([20.0, 600.0])),
            "queue_limit": draw(st.sampled_from([2, 50])),
        }
        for name in NAMES[: draw(st.integers(1, 4))]
    ]


class Shell(Outstanding, RuleBasedStateMachine):
    """Things happen in any order, at any time."""

    @initialize(
        settings=models(),
        room=st.sampled_from([0.3, 0.5, 0.6, 0.8, 1.2]),
        policy=st.sampled_from(Policy),
        reaped=st.booleans(),
        keeps=st.sampled_from([0.0, 0.5, 1.0]),
        sleep_resident=st.sampled_from([0.2, 0.2, 0.9]),
        sized=st.booleans(),
        host=st.sampled_from([0, 100, 170, 1000]),
    )
    def begin(self, **drawn: Any) -> None:
        super().begin(**drawn)

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
        self.reclaims(data.draw(st.sampled_from(sorted(self.stopping))), seconds=0.2)

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
        self.reclaims(
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
        peak = self.memory.workers[worker].peak
        if not self.busy(worker):
            self.memory.workers[worker].end()
        self.send(RequestFailed(request, worker, sent=False, out_of_memory=failed == 1, peak=peak))

    @precondition(lambda self: self.count % 7 == 6 and self.running.keys() | self.starting.keys())
    @rule(data=st.data(), more=st.sampled_from([1, 35, 70, 200, 1000]))
    def takes_more(self, data: st.DataObject, more: int) -> None:
        """A run or a load takes more than it was given; it may be too much."""
        worker = data.draw(st.sampled_from(sorted({*self.running.values(), *self.starting})))
        self.greedy = True
        self.memory.workers[worker].more = more * MIB
        self.guarded()

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

    @precondition(lambda self: self.count % 4 == 1)
    @rule()
    def device_fails(self) -> None:
        """Until the next reading."""
        self.send(DeviceUnreadable("a test says so"))

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
        state = self.controller.state
        waiting = any(m.queue for m in state.models.values())
        # the shell reads the device after each run, and goes on reading it while memory is to come back
        reading = any(account.unconfirmed for account in state.ledger.accounts.values()) or state.ledger.unreturned
        if self.unreadable:
            reading = False  # it reads nothing, and whoever waits for that is told so after a time
        assert self.outstanding or self.timer is not None or reading or not waiting

    @invariant()
    def every_request_is_known(self) -> None:
        """What its client waits for, the core still has."""
        if hasattr(self, "controller"):
            assert self.asked.keys() <= self.controller.state.requests.keys()

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
        again = self.fresh()
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
            self.reclaims(next(iter(self.stopping)), seconds=0.1)
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
