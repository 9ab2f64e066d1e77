"""Whom the guard ends, and that it does not end itself without a word."""

import asyncio
import resource
from typing import Any

import pytest

from cohabit.core.events import DeviceMeasured, TimerFired
from cohabit.core.lifecycle import State
from cohabit.core.memory_limits import NOISE
from cohabit.protocol.messages import LoadFailed
from cohabit.runtime.workers import guard as module
from cohabit.runtime.workers.guard import Guard
from cohabit.runtime.workers.handle import WorkerHandle
from core.driver import MIB, Core, model


class Process:
    """Knows whether it was killed."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.killed = 0
        self.halted = False

    def kill(self) -> None:
        self.killed += 1

    def halt(self) -> None:
        self.halted = True

    def resume(self) -> None:
        self.halted = False


class Scene:
    """Models a and b, both in, in a budget of 300 MiB; what each process holds is told to the guard."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, on_card: bool = False) -> None:
        self.core = Core(model("a", idle=100, activation=10), model("b", idle=50, activation=5), budget=300)
        self.core.bring("a", at=0)
        self.core.bring("b", at=1)
        self.processes = {1: Process(101), 2: Process(102)}
        self.workers = {id_: WorkerHandle(id_, "ab"[id_ - 1], 0.0) for id_ in (1, 2)}
        for id_, worker in self.workers.items():
            worker.process = self.processes[id_]  # type: ignore[assignment]  # what is used of it
        self.held = {101: 100, 102: 50}
        self.shared = 0
        self.halted_while_read: list[int] = []
        self.limits: dict[int, int] = {}
        monkeypatch.setattr(module, "group_members", lambda: {101: [101], 102: [102]})
        monkeypatch.setattr(module, "_resident_size", lambda pid: self.held[pid] * MIB)
        monkeypatch.setattr(module, "pss", self._pss)
        monkeypatch.setattr(module, "_data_size", lambda pid: (self.held[pid] + 20) * MIB)
        monkeypatch.setattr(resource, "prlimit", self._limit)
        self.guard = Guard(self.core.state, self.workers, on_card=on_card)
        self.runs()

    def _pss(self, pid: int) -> int:
        self.halted_while_read = [id_ for id_, process in self.processes.items() if process.halted]
        return (self.held[pid] - self.shared) * MIB

    def _limit(self, pid: int, _which: int, limits: tuple[int, int]) -> None:
        self.limits[pid] = limits[0]

    def runs(self) -> None:
        """Something runs on a."""
        self.core.ask("a", at=2)
        self.happens()

    def happens(self) -> None:
        """The guard hears that something has happened."""
        self.guard.handled(TimerFired(), [], 0.0)

    @property
    def killed(self) -> list[int]:
        return [id_ for id_, process in self.processes.items() if process.killed]


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_worker_within_free_memory_is_not_killed(scene: Scene) -> None:
    scene.held[101] = 250 + NOISE // MIB
    scene.guard.look()
    assert scene.killed == []


def test_suspect_takes_no_memory_while_it_is_looked_at_closely(scene: Scene) -> None:
    scene.held[101], scene.shared = 300, 200
    scene.guard.look()
    assert scene.halted_while_read == [1]
    assert not scene.processes[1].halted, "it goes on"
    assert scene.killed == [], "most of what it holds is shared"


def test_worker_over_its_memory_limit_is_killed_once_with_a_reason(scene: Scene) -> None:
    scene.held[101] = 251 + NOISE // MIB
    scene.guard.look()
    scene.guard.look()
    assert scene.killed == [1]
    assert scene.processes[1].killed == 1
    worker = scene.workers[1]
    assert worker.exceeded == scene.held[101] * MIB
    assert worker.failed == LoadFailed(
        "it held 283 MiB, more than the 282 MiB that it may hold at this moment", out_of_memory=True
    )


def test_shared_memory_is_not_counted_twice(scene: Scene) -> None:
    scene.held[101], scene.shared = 300, 30
    scene.guard.look()
    assert scene.killed == []


def test_guard_looks_sooner_near_a_limit(scene: Scene) -> None:
    assert scene.guard.look() == pytest.approx(module.PERIOD, rel=0.3)
    scene.held[101] = 250
    assert scene.guard.look() < module.PERIOD / 2
    scene.core.done("a", 3, at=3)
    scene.happens()
    scene.guard._busy_at = float("-inf")  # long ago
    assert scene.guard.look() == module.RESTING


def test_nobody_is_ended_for_what_it_was_given_while_it_was_looked_at(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.held[102] = 290

    def size(pid: int) -> int:
        scene.core.state.ledger.run(2, 300 * MIB)  # booked in this very moment
        scene.happens()
        return scene.held[pid] * MIB

    monkeypatch.setattr(module, "pss", size)
    scene.guard.look()
    assert scene.killed == []


def test_kernel_limits_a_worker_to_what_it_may_hold(scene: Scene) -> None:
    scene.guard.look()
    most = 250 * MIB + NOISE + 20 * MIB + module.SLACK
    assert scene.limits[101] == most
    scene.core.gone("b", at=3)
    scene.happens()
    assert scene.limits[101] == most + 50 * MIB, "raised at once, before the next look"


def test_while_it_wakes_or_falls_asleep_the_kernel_limits_nothing(scene: Scene) -> None:
    scene.guard.look()
    scene.core["a"].lifecycle.state = State.WAKING
    scene.happens()
    assert scene.limits[101] == resource.RLIM_INFINITY


def test_refusing_kernel_is_asked_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def refuses(pid: int, *_: Any) -> None:
        asked.append(pid)
        raise PermissionError

    monkeypatch.setattr(resource, "prlimit", refuses)
    scene.guard.look()
    scene.guard.look()
    assert len(asked) == 1


def test_on_a_card_readings_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(monkeypatch, on_card=True)
    for held, killed in ((250, []), (290, [1])):
        event = DeviceMeasured(3.0, 1000 * MIB, 500 * MIB, {1: held * MIB, 2: 50 * MIB})
        scene.core.send(event, at=3)
        scene.guard.handled(event, [], 3.0)
        assert scene.killed == killed


async def test_error_in_the_guards_thread_is_raised(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> float:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(scene.guard, "look", fails)
    with pytest.raises(OSError, match="Too many open files"):
        await asyncio.wait_for(scene.guard.run(), 5)


async def test_guard_looks_until_it_is_cancelled(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = asyncio.Event()
    loop = asyncio.get_running_loop()
    look = scene.guard.look

    def noticed() -> float:
        loop.call_soon_threadsafe(looked.set)
        return look()

    monkeypatch.setattr(scene.guard, "look", noticed)
    task = asyncio.ensure_future(scene.guard.run())
    await asyncio.wait_for(looked.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
