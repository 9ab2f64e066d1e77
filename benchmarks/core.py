"""What a decision costs: every call of ``Controller.handle`` timed in a steady state, with 10 to 10,000 models.

The shell of the simulation answers the core's commands in virtual time: loads of 0.5 to 5 s, runs of 0.2 s on
average, exits of 0.1 s; half of the models can sleep, and wake in 0.2 s. About 20 of them fit (of 10 models 5), on
8 slots, 4 requests at once on each. Ten requests a model wait at all times: for each that ends another one arrives,
for a model drawn by Zipf's law, from one of 50 clients. One in ten has a deadline of 1 to 10 minutes, 3 % of the
clients leave after 20 s on average, the device is read once a second. Timed are EVENTS events after a minute of
that; the garbage collector is on, as in the server. The mix of events is in the result.

``--against COMMIT`` compares this checkout with an older one: both run by turns, ``--pairs`` times each, and the
medians of the pairs are kept. Machines differ and get busy; the ratio of two runs beside each other says more.
"""

import argparse
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

from _machine import keep
from cohabit.core.commands import Command
from cohabit.core.controller import Controller
from cohabit.core.events import Event, RequestArrived
from cohabit.core.ledger import Ledger
from cohabit.core.model_state import ModelPolicy
from cohabit.simulate.behaviour import Behaviour, known_model
from cohabit.simulate.shell import VirtualShell

SIZES = (10, 100, 1_000, 10_000)
WAITING = 10  # requests a model, on average
EVENTS = 30_000
WARM_UP = 60.0  # virtual seconds
STRIDE = 0.1  # virtual seconds between two looks at what has been reached
MIB = 1 << 20
WORKING = 10 * MIB
RESIDUE = 5 * MIB
EXIT, SLEEP, WAKE = 0.1, 0.05, 0.2  # seconds


class Load:
    """A controller in virtual time, for which as many requests wait as should."""

    def __init__(self, models: int, seed: int = 1) -> None:
        """Nothing has happened yet."""
        self.waiting = 0
        self.decisions: list[tuple[str, int, int]] = []  # kind of event, nanoseconds, how many waited
        self._random = random.Random(seed)
        self._names = [f"model-{number}" for number in range(models)]
        self._popularity = list(itertools.accumulate(1 / rank for rank in range(1, models + 1)))
        self._level = WAITING * models
        self._coming = 0
        self._until = 0.0
        behaviours = {name: self._behaviour() for name in self._names}
        budget = min(20, models // 2) * (100 * MIB + WORKING)
        known = [known_model(self._policy(name, takes), takes) for name, takes in behaviours.items()]
        self._controller = Controller(known, Ledger(budget=budget, keep_free=0, slots=8))
        self.shell = VirtualShell(
            self._decide, behaviours, total=2 * budget, read_every=1.0, observers=[self._keep_level]
        )
        self._ask()

    @property
    def full(self) -> bool:
        """Whether as many wait as should."""
        return self.waiting >= 0.99 * self._level

    def step(self) -> None:
        """Let a little time pass."""
        self._until += STRIDE
        self.shell.run(self._until)

    def _behaviour(self) -> Behaviour:
        resident = self._random.randint(50, 150) * MIB
        return Behaviour(
            idle=resident,
            load=resident,
            activation=WORKING,
            load_seconds=self._random.uniform(0.5, 5.0),
            wake_seconds=WAKE if self._random.random() < 0.5 else None,
            sleep_seconds=SLEEP,
            sleep_resident=RESIDUE,
            exit_seconds=EXIT,
        )

    @staticmethod
    def _policy(name: str, takes: Behaviour) -> ModelPolicy:
        sleeps = takes.wake_seconds is not None
        return ModelPolicy(name=name, concurrency=4, queue_limit=1 << 30, sleeps=sleeps)

    def _decide(self, event: Event, now: float) -> Sequence[Command]:
        began = time.perf_counter_ns()
        commands = self._controller.handle(event, now)
        spent = time.perf_counter_ns() - began
        self.decisions.append((type(event).__name__, spent, self.waiting))
        return commands

    def _keep_level(self, event: Event, _commands: Sequence[Command], _now: float) -> None:
        if type(event) is RequestArrived:
            self._coming -= 1
        state = self._controller.state
        self.waiting = len(state.requests) - sum(len(model.run.requests) for model in state.workers.values())
        self._ask()

    def _ask(self) -> None:
        while self.waiting + self._coming < self._level:
            self._coming += 1
            at = self.shell.now + self._random.expovariate(100.0)
            [name] = self._random.choices(self._names, cum_weights=self._popularity)
            self.shell.ask(
                name,
                at=at,
                run_seconds=self._random.expovariate(5.0),
                client=f"client-{self._random.randrange(50)}",
                deadline=at + self._random.uniform(60.0, 600.0) if self._random.random() < 0.1 else None,
                units=self._random.randint(1, 2048),
                leaves_at=at + self._random.expovariate(1 / 20) if self._random.random() < 0.03 else inf,
            )


def measure(models: int, seconds: float) -> dict[str, Any]:
    """One size, for at most so many seconds of real time."""
    end = time.monotonic() + seconds
    load = Load(models)
    while not load.full or load.shell.now < WARM_UP:
        if time.monotonic() > end:
            return {
                "models": models,
                "given_up_after_seconds": seconds,
                "waiting": load.waiting,
                "virtual_seconds": round(load.shell.now, 1),
            }
        load.step()
    load.decisions.clear()
    began = load.shell.now
    while len(load.decisions) < EVENTS and time.monotonic() < end:
        load.step()
    spent: dict[str, list[int]] = defaultdict(list)
    for kind, nanoseconds, _ in load.decisions:
        spent[kind].append(nanoseconds)
    return {
        "models": models,
        "waiting": round(statistics.fmean(waiting for _, _, waiting in load.decisions)),
        "virtual_seconds": round(load.shell.now - began, 1),
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


def compare(commit: str, pairs: int, sizes: Sequence[int]) -> dict[str, Any]:
    """This checkout and an older commit, by turns; medians of all runs, and of the ratio within each pair."""
    root = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as folder:
        archive = ["git", "archive", commit, "src", "benchmarks"]  # each runs its own: names may have changed since
        packed = subprocess.run(archive, cwd=root, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=packed, check=True)
        runs: dict[str, list[list[dict[str, Any]]]] = {"before": [], "now": []}
        for _ in range(pairs):
            for which, tree in (("before", Path(folder)), ("now", root)):
                command = [sys.executable, str(tree / "benchmarks" / "core.py"), "--models", *map(str, sizes)]
                environment = {**os.environ, "PYTHONPATH": str(tree / "src")}
                said = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
                runs[which].append(json.loads(said))
    found = []
    for place, models in enumerate(sizes):
        entry: dict[str, Any] = {"models": models}
        for figure in ("median_us", "mean_us", "p99_us"):
            before, now = ([run[place][figure] for run in runs[which]] for which in ("before", "now"))
            ratios = [after / earlier for earlier, after in zip(before, now, strict=True)]
            entry[figure] = {
                "before": round(statistics.median(before), 1),
                "now": round(statistics.median(now), 1),
                "ratio": round(statistics.median(ratios), 3),
            }
        found.append(entry)
    return {"against": commit, "pairs": pairs, "sizes": found}


def main() -> None:
    """Measure and keep; with ``--models`` alone only print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, nargs="+", help=f"instead of {SIZES}; the result is not kept")
    parser.add_argument("--seconds", type=float, default=180.0, help="the most that one size may take")
    parser.add_argument("--against", metavar="COMMIT", help="compare with this commit, by turns")
    parser.add_argument("--pairs", type=int, default=5, help="how many runs of each, with --against")
    asked = parser.parse_args()
    if asked.against:
        keep("core_against", compare(asked.against, asked.pairs, asked.models or SIZES[:3]))
        return
    found = [measure(models, asked.seconds) for models in asked.models or SIZES]
    if asked.models:
        print(json.dumps(found, indent=2))
        return
    keep("core", {"sizes": found})


if __name__ == "__main__":
    main()
