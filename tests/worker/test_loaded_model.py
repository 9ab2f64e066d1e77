"""The model of a process sleeps and wakes: by itself where it keeps something, else by a new instance."""

import gc
import weakref
from collections.abc import Iterator, Sequence
from typing import ClassVar

import pytest

from cohabit.protocol.engine import Cancelled, Engine, EngineError, EngineRequest, Output
from cohabit.protocol.spec import Device, ModelSpec
from cohabit.protocol.tasks import Task
from cohabit.worker import loaded_model as module
from cohabit.worker.loaded_model import LoadedModel

SPEC = ModelSpec(name="m", engine="noted", options={"a": 1}, concurrency=3)


class Noted(Engine):
    """Notes what is called; keeps nothing asleep."""

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.CHAT})
    said: ClassVar[list[str]] = []

    def load(self, spec: ModelSpec, device: Device) -> None:
        """The spec it is given must always be the same."""
        assert (spec, device) == (SPEC, Device("cpu"))
        self.said.append("load")

    def run(self, batch: Sequence[EngineRequest], cancelled: Cancelled) -> Iterator[Output]:
        """Nothing."""
        return iter(())

    def warmup(self) -> None:
        """Noted."""
        self.said.append("warmup")

    def trim(self) -> None:
        """Noted."""
        self.said.append("trim")

    def close(self) -> None:
        """Noted."""
        self.said.append("close")


class Keeper(Noted):
    """Keeps a copy asleep; batches by itself."""

    continuous: ClassVar[bool] = True

    def sleep(self) -> bool:
        """Noted."""
        self.said.append("sleep")
        return True

    def wake(self) -> None:
        """Noted."""
        self.said.append("wake")


class Copier(Keeper):
    """By a copy in host memory."""

    def load(self, spec: ModelSpec, device: Device) -> None:
        """With a copy of seven bytes."""
        super().load(spec, device)
        self.copied = 7


def made(monkeypatch: pytest.MonkeyPatch, engine: type[Engine]) -> LoadedModel:
    Noted.said.clear()
    monkeypatch.setattr(module, "engine_class", {"noted": engine}.__getitem__)
    return LoadedModel(SPEC, Device("cpu"))


def test_without_hooks_it_is_closed_and_dropped_and_another_one_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(monkeypatch, Noted)
    first = weakref.ref(model.load())
    assert Noted.said == ["load", "warmup", "trim"]
    model.sleep()
    assert first() is None, "what hangs on it is gone with it"
    assert Noted.said[3:] == ["close"]
    second = model.wake()
    assert Noted.said[4:] == ["load", "warmup", "trim"]
    assert model.engine is second
    model.close()
    assert Noted.said[7:] == ["close"]
    model.close()
    assert Noted.said[8:] == []


def test_one_that_keeps_something_is_woken_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(monkeypatch, Keeper)
    first = model.load()
    model.sleep()
    assert model.engine is first
    assert model.wake() is first
    model.trim()
    assert Noted.said[3:] == ["sleep", "wake", "trim"]


def test_of_a_copy_it_is_told_how_large_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(monkeypatch, Copier)
    assert model.copied == 0, "there is none before the load"
    model.load()
    model.sleep()
    assert model.copied == 7
    model.wake()
    assert model.copied == 7
    model.close()
    assert model.copied == 0


def test_engine_is_called_from_as_many_threads_as_its_concurrency(monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(monkeypatch, Noted).threads == 1
    assert made(monkeypatch, Keeper).threads == 3


def test_cycles_are_no_reason_to_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    class Knotted(Noted):
        """Refers to itself."""

        def load(self, spec: ModelSpec, device: Device) -> None:
            """Into a knot."""
            self.knot = self

    gc.disable()
    try:
        model = made(monkeypatch, Knotted)
        engine = weakref.ref(model.load())
        model.sleep()
        assert engine() is None
    finally:
        gc.enable()


def test_a_wake_may_fail_as_a_load_does(monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(monkeypatch, Noted)
    model.load()
    model.sleep()

    def gone(*_: object) -> None:
        raise EngineError("there is no file")

    monkeypatch.setattr(Noted, "load", gone)
    with pytest.raises(EngineError, match="there is no file"):
        model.wake()
    assert model.engine is None
