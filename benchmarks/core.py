"""What a decision costs: every call of ``Controller.handle`` timed in a steady state, with 10 to 10,000 models.

A shell in virtual time answers the core's commands: loads of 0.5 to 5 s, runs of 0.2 s on average, exits of 0.1 s;
half of the models can sleep, and wake in 0.2 s. About 20 of them fit (of 10 models 5), on 8 slots, 4 requests at
once on each. Ten requests a model wait at all times: for each that ends another one arrives, for a model drawn by
Zipf's law, from one of 50 clients. One in ten has a deadline of 1 to 10 minutes, 3 % of the clients leave after 20
s on average, the device is read once a second. Timed are EVENTS events after a minute of that; the garbage
collector is on, as in the server. The mix of events is in the result.
"""

import argparse
import heapq
import itertools
import json
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any, assert_never

from _machine import keep
from cohabit.core.commands import (
    Cancel,
    Command,
    Dispatch,
    Halt,
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
    RequestCancelled,
    RequestFinished,
    Slept,
    Started,
    TimerFired,
    Trimmed,
    WorkerExited,
    WorkerReady,
)
from cohabit.core.footprints import Figure, Footprint, Origin
from cohabit.core.ledger import Ledger
from cohabit.core.state import Model, ModelPolicy

SIZES = (10, 100, 1_000, 10_000)
WAITING = 10  # requests a model, on average
EVENTS = 30_000
WARM_UP = 60.0  # virtual seconds
MIB = 1 << 20
WORKING = 10 * MIB
RESIDUE = 5 * MIB
EXIT, SLEEP, WAKE = 0.1, 0.05, 0.2  # seconds


class Shell:
    """Keeps what it was told to do and answers when its time has come."""

    def __init__(self, models: int, seed: int = 1) -> None:
        """Nothing has happened yet."""
        self.now = 0.0
        self.waiting: set[int] = set()
        self._random = random.Random(seed)
        self._names = [f"model-{number}" for number in range(models)]
        self._popularity = list(itertools.accumulate(1 / rank for rank in range(1, models + 1)))
        self._resident = {name: self._random.randint(50, 150) * MIB for name in self._names}
        self._load_seconds = {name: self._random.uniform(0.5, 5.0) for name in self._names}
        self._budget = min(20, models // 2) * (100 * MIB + WORKING)
        self._level = WAITING * models
        self._arriving = 0
        self._requests = itertools.count(1)
        self._running: dict[int, int] = {}  # request -> worker
        self._workers: dict[int, str] = {}
        self._held: dict[int, int] = {}
        self._leaving: set[int] = set()
        self._timer: float | None = None
        self._due: list[tuple[float, int, Callable[[], Event | None]]] = []
        self._order = itertools.count()
        ledger = Ledger(budget=self._budget, keep_free=0, slots=8)
        self._controller = Controller([self._model(name) for name in self._names], ledger)
        self._in(0.0, Started)
        self._in(1.0, self._read)

    @property
    def full(self) -> bool:
        """Whether as many wait as should."""
        return len(self.waiting) >= 0.99 * self._level

    def step(self) -> tuple[str, int]:
        """The next event: its kind, and the nanoseconds it took to decide."""
        event = None
        while event is None:
            self.now, _, happens = heapq.heappop(self._due)
            event = happens()
        began = time.perf_counter_ns()
        commands = self._controller.handle(event, self.now)
        spent = time.perf_counter_ns() - began
        for command in commands:
            self._carry_out(command)
        while len(self.waiting) + self._arriving < self._level:
            self._arriving += 1
            self._in(self._random.expovariate(100.0), self._arrive)
        return type(event).__name__, spent

    def _model(self, name: str) -> Model:
        declared = Origin.DECLARED
        resident = Figure(self._resident[name], declared)
        return Model(
            ModelPolicy(name=name, concurrency=4, queue_limit=1 << 30, sleeps=self._random.random() < 0.5),
            Footprint(
                resident=resident,
                load=resident,
                working=Figure(WORKING, declared),
                residue=Figure(RESIDUE, declared),
                load_seconds=self._load_seconds[name],
                exit_seconds=EXIT,
                sleep_seconds=SLEEP,
                wake_seconds=WAKE,
            ),
        )

    def _in(self, seconds: float, happens: Callable[[], Event | None]) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self._order), happens))

    def _carry_out(self, command: Command) -> None:
        match command:
            case StartWorker(name, worker):
                self._workers[worker] = name
                self._held[worker] = 0
                self._in(self._load_seconds[name], partial(self._ready, worker, self._load_seconds[name]))
            case WakeWorker(_, worker):
                self._in(WAKE, partial(self._ready, worker, WAKE))
            case SleepWorker(_, worker):
                self._in(SLEEP, partial(self._slept, worker))
            case TrimWorker(_, worker):
                self._in(0.01, partial(self._answer, worker, Trimmed(worker)))
            case StopWorker(_, worker):
                self._leaving.add(worker)
                self._in(EXIT, partial(self._exited, worker))
            case Dispatch(_, worker, requests):
                for request in requests:
                    seconds = self._random.expovariate(5.0)
                    self.waiting.remove(request)
                    self._running[request] = worker
                    self._in(seconds, partial(self._finished, request, worker, seconds))
            case Cancel(request, worker):
                self._in(0.01, partial(self._finished, request, worker, 0.01))
            case Reject(request):
                self.waiting.discard(request)
            case SetTimer(at):
                self._timer = at
                if at is not None:
                    self._in(at - self.now, partial(self._fired, at))
            case Halt():
                raise AssertionError("nobody asked for it")
            case _:
                assert_never(command)

    def _arrive(self) -> Event:
        self._arriving -= 1
        request = next(self._requests)
        self.waiting.add(request)
        [name] = self._random.choices(self._names, cum_weights=self._popularity)
        deadline = self.now + self._random.uniform(60.0, 600.0) if self._random.random() < 0.1 else None
        if self._random.random() < 0.03:
            self._in(self._random.expovariate(1 / 20), partial(self._left, request))
        client = f"client-{self._random.randrange(50)}"
        return RequestArrived(request, name, client, deadline, units=self._random.randint(1, 2048))

    def _left(self, request: int) -> Event | None:
        if request not in self.waiting and request not in self._running:
            return None
        self.waiting.discard(request)
        return RequestCancelled(request)

    def _finished(self, request: int, worker: int, seconds: float) -> Event | None:
        if self._running.get(request) != worker:
            return None  # cancelled before, or gone with its worker
        del self._running[request]
        return RequestFinished(request, worker, seconds, self._held[worker] + WORKING)

    def _answer(self, worker: int, event: Event) -> Event | None:
        return event if worker in self._workers and worker not in self._leaving else None

    def _ready(self, worker: int, seconds: float) -> Event | None:
        if worker not in self._workers:
            return None
        held = self._held[worker] = self._resident[self._workers[worker]]
        return self._answer(worker, WorkerReady(worker, held, held, seconds))

    def _slept(self, worker: int) -> Event | None:
        if worker not in self._workers:
            return None
        self._held[worker] = RESIDUE
        return self._answer(worker, Slept(worker, RESIDUE, SLEEP))

    def _exited(self, worker: int) -> Event:
        del self._workers[worker], self._held[worker]
        self._leaving.discard(worker)
        for request in [request for request, where in self._running.items() if where == worker]:
            del self._running[request]
            self.waiting.add(request)  # to be tried again, unless it is rejected
        return WorkerExited(worker, EXIT)

    def _read(self) -> Event:
        self._in(1.0, self._read)
        total = 2 * self._budget
        return DeviceMeasured(self.now, total, total - sum(self._held.values()), dict(self._held))

    def _fired(self, at: float) -> Event | None:
        if self._timer != at:
            return None  # replaced
        self._timer = None
        return TimerFired()


def measure(models: int, seconds: float) -> dict[str, Any]:
    """One size, for at most so many seconds of real time."""
    end = time.monotonic() + seconds
    shell = Shell(models)
    while not shell.full or shell.now < WARM_UP:
        if time.monotonic() > end:
            return {
                "models": models,
                "given_up_after_seconds": seconds,
                "waiting": len(shell.waiting),
                "virtual_seconds": round(shell.now, 1),
            }
        shell.step()
    spent: dict[str, list[int]] = defaultdict(list)
    waiting = []
    began = shell.now
    for _ in range(EVENTS):
        kind, nanoseconds = shell.step()
        spent[kind].append(nanoseconds)
        waiting.append(len(shell.waiting))
        if time.monotonic() > end:
            break
    return {
        "models": models,
        "waiting": round(statistics.fmean(waiting)),
        "virtual_seconds": round(shell.now - began, 1),
        **summary([one for kind in spent.values() for one in kind]),
        "by_event": {kind: summary(spent[kind]) for kind in sorted(spent)},
    }


def summary(nanoseconds: list[int]) -> dict[str, float]:
    """How many, and microseconds."""
    ranked = sorted(nanoseconds)

    def share(part: float) -> float:
        return round(ranked[min(len(ranked) - 1, int(part * len(ranked)))] / 1000, 1)

    return {
        "events": len(ranked),
        "median_us": share(0.5),
        "p99_us": share(0.99),
        "max_us": share(1.0),
        "mean_us": round(statistics.fmean(ranked) / 1000, 1),
    }


def main() -> None:
    """Measure and keep; with ``--models`` only print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="+", help=f"instead of {SIZES}; the result is not kept")
    parser.add_argument("--seconds", type=float, default=180.0, help="the most that one size may take")
    asked = parser.parse_args()
    found = [measure(models, asked.seconds) for models in asked.models or SIZES]
    if asked.models:
        print(json.dumps(found, indent=2))
        return
    keep("core", {"sizes": found})


if __name__ == "__main__":
    main()
