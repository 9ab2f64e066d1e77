"""What the core learns is kept on disk, and what teaches nothing costs nothing."""

from pathlib import Path

import pytest

from cohabit.config import defaults
from cohabit.config.load import parse_config
from cohabit.core.commands import StartWorker
from cohabit.core.events import RequestFinished, Slept, WorkerExited, WorkerReady
from cohabit.core.footprints import Figure, Origin
from cohabit.core.model_state import Model
from cohabit.runtime.footprint_recorder import FootprintRecorder
from cohabit.runtime.plan import footprint_of
from cohabit.runtime.profile_store import Profile, ProfileStore, profile_key

MIB = 1 << 20


class Learning:
    """One model, the core's footprint of it, and what is on disk."""

    def __init__(self, folder: Path) -> None:
        config = parse_config("device: {budget: 1GiB, keep_free: 0}\nmodels: {a: {engine: fake}}", folder)
        self.kept = ProfileStore(folder / "footprints.json")
        self.model = Model(defaults.model_policy(config, "a"), footprint_of(config, "a", self.kept, folder))
        self.key = profile_key(config.models["a"], "cpu")
        self.learner = FootprintRecorder(config, [self.model], self.kept)
        self.heard = self.learner.handled

    @property
    def profile(self) -> Profile:
        found = self.kept.find(self.key)
        assert found is not None
        return found

    def load(self) -> None:
        """The worker 5 comes in."""
        self.heard(RequestFinished(0, 0, 0, 0), [StartWorker("a", 5)], 0)
        self.model.footprint.learn_load(50 * MIB, 60 * MIB, 1.25)
        self.heard(WorkerReady(5, 50 * MIB, 60 * MIB, 1.25), [], 0)


@pytest.fixture
def learning(tmp_path: Path) -> Learning:
    return Learning(tmp_path)


def test_loads_and_runs(learning: Learning) -> None:
    learning.load()
    loaded = Profile(model="a", idle=50 * MIB, load=60 * MIB, activation=0, load_seconds=1.25)
    assert learning.profile == loaded
    learning.heard(RequestFinished(1, 5, 0.1, 0), [], 0)
    assert learning.profile == loaded
    learning.model.footprint.learn_run(100 * MIB)
    learning.heard(RequestFinished(1, 5, 0.1, 0), [], 0)
    assert learning.profile.activation == 100 * MIB


def test_sleeps_wakes_and_exits(learning: Learning) -> None:
    learning.load()
    footprint = learning.model.footprint
    footprint.sleep_resident = Figure(20 * MIB, Origin.MEASURED)
    footprint.sleep_seconds.add(0.25)
    learning.heard(Slept(5, 20 * MIB, 0.25), [], 0)
    footprint.host_copy = Figure(40 * MIB, Origin.ESTIMATED)
    learning.heard(Slept(5, 20 * MIB, 0.25), [], 0)
    guessed = learning.profile
    assert guessed.host_copy is None, "a guess is not kept"
    footprint.host_copy = Figure(50 * MIB, Origin.MEASURED)
    learning.heard(Slept(5, 20 * MIB, 0.25), [], 0)
    asleep = learning.profile
    assert asleep.host_copy == 50 * MIB
    assert (asleep.sleep_resident, asleep.sleep_seconds, asleep.wake_seconds) == (20 * MIB, 0.25, None)
    footprint.wake_seconds.add(0.5)
    footprint.run_seconds.add(0.75)
    learning.heard(WorkerReady(5, 50 * MIB, 60 * MIB, 0.5), [], 0)
    awake = learning.profile
    assert (awake.wake_seconds, awake.run_seconds) == (0.5, 0.75)
    footprint.exit_seconds.add(0.125)
    learning.heard(WorkerExited(5, seconds=0.125), [], 0)
    assert learning.profile.exit_seconds == 0.125
    assert learning.profile.load_seconds == 1.25


def test_what_an_earlier_process_measured_stands_until_it_is_measured_again(tmp_path: Path) -> None:
    first = Learning(tmp_path)
    first.load()
    first.model.footprint.sleep_resident = Figure(0, Origin.MEASURED)
    for average in ("exit_seconds", "sleep_seconds", "wake_seconds", "run_seconds"):
        getattr(first.model.footprint, average).add(0.0)
    first.model.footprint.learn_run(100 * MIB)
    first.heard(Slept(5, 0, 0.0), [], 0)
    second = Learning(tmp_path)
    second.load()
    assert second.profile == first.profile
    assert (second.profile.sleep_resident, second.profile.sleep_seconds) == (0, 0.0), "nothing is a measurement too"


def test_event_that_teaches_nothing_is_not_recorded(learning: Learning, monkeypatch: pytest.MonkeyPatch) -> None:
    learning.load()
    monkeypatch.setattr(learning.kept, "record", None)
    for number in range(3):
        learning.model.footprint.run_seconds.add(0.1)
        learning.heard(RequestFinished(number, 5, 0.1, 0), [], 0)
    learning.heard(RequestFinished(1, 99, 0.1, 0), [], 0)
    learning.heard(WorkerReady(99, 1, 1, 0.1), [], 0)


def test_worker_that_never_loaded_is_not_recorded(learning: Learning) -> None:
    learning.heard(RequestFinished(0, 0, 0, 0), [StartWorker("a", 5)], 0)
    learning.heard(WorkerExited(5, seconds=0.1), [], 0)
    assert learning.kept.find(learning.key) is None
