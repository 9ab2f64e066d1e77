"""Every request of a batch ends in exactly one Finished, whatever the engine does."""

import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pytest

from cohabit.protocol.engine import Cancelled, Chunk, Engine, EngineRequest, ItemError, Output
from cohabit.protocol.messages import Finished
from cohabit.protocol.spec import Device, ModelSpec
from cohabit.protocol.tasks import Task
from cohabit.worker import batch_executor
from cohabit.worker.batch_executor import BatchExecutor
from cohabit.worker.meter import HostMeter
from cohabit.worker.threads import Threads


class Scripted(Engine):
    """Yields what a test wrote down; an exception in the script is raised."""

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.CHAT})

    def __init__(self, *script: Output | Exception | threading.Event) -> None:
        self.script = script
        self.asked: list[bool] = []

    def load(self, spec: ModelSpec, device: Device) -> None:
        """Nothing to load."""

    def run(self, batch: Sequence[EngineRequest], cancelled: Cancelled) -> Iterator[Output]:
        """The script."""
        for step in self.script:
            if isinstance(step, threading.Event):
                assert step.wait(5)
                self.asked = [cancelled(request.id) for request in batch]
            elif isinstance(step, Exception):
                raise step
            else:
                yield step


class OutOfMemoryError(RuntimeError):
    """Torch's has this name, and is no MemoryError."""


class Recorder:
    """A link that keeps what it was given."""

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.held_up = 0

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **how: self.said.append((name, *arguments, *how.items()))

    def finished(self) -> dict[int, Finished]:
        """By request."""
        found = [entry[1] for entry in self.said if entry[0] == "finish"]
        assert len({one.id for one in found}) == len(found), "once each"
        return {one.id: one for one in found}


BATCH = [EngineRequest(1, Task.CHAT, b"{}"), EngineRequest(2, Task.CHAT, b"{}")]


def played(engine: Scripted, between: Any = None) -> Recorder:
    """Run the batch to its end."""
    link = Recorder()
    runner = BatchExecutor(engine, link, Threads(1), HostMeter())  # type: ignore[arg-type]  # a stand-in that records
    runner.submit(BATCH)
    if between is not None:
        between(runner)
    runner.settle()
    return link


def test_chunks_then_finished_then_the_end() -> None:
    link = played(Scripted(Chunk(1, b"a", tokens=2), Chunk(2, b"b", tokens=1)))
    assert link.said[-4:-2] == [
        ("put", Chunk(1, b"a", tokens=2), ("whole", False)),
        ("put", Chunk(2, b"b", tokens=1), ("whole", False)),
    ]
    assert [kind for kind, *_ in link.said] == ["open", "open", "put", "put", "finish", "finish"]
    done = link.finished()
    assert (done[1].tokens, done[2].tokens) == (2, 1)
    assert done[1].error is None
    assert done[1].peak >= done[1].idle > 0
    assert done[1].task is Task.CHAT


def test_vectors_go_out_whole() -> None:
    link = Recorder()
    runner = BatchExecutor(Scripted(Chunk(1, b"a")), link, Threads(1), HostMeter())  # type: ignore[arg-type]  # a stand-in that records
    runner.submit([EngineRequest(1, Task.EMBED, b"{}")])
    runner.settle()
    assert ("put", Chunk(1, b"a"), ("whole", True)) in link.said


def test_error_of_one_item_does_not_affect_the_others() -> None:
    error = ItemError(1, "no")
    link = played(Scripted(error, Chunk(2, b"b")))
    assert link.finished()[1].error == error
    assert link.finished()[2].error is None


@pytest.mark.parametrize(
    ("raised", "code", "oom"),
    [
        (MemoryError(), "out_of_memory", True),
        (OutOfMemoryError("canary"), "out_of_memory", True),
        (ValueError("canary"), "engine_error", False),
    ],
)
def test_an_exception_fails_what_is_open_and_is_not_quoted(
    raised: Exception, code: str, oom: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    link = played(Scripted(ItemError(1, "no"), Chunk(2, b"b"), raised))
    done = link.finished()
    assert done[1].error is not None
    assert done[1].error.message == "no"
    assert done[2].error is not None
    assert (done[2].error.code, done[2].error.out_of_memory, done[2].error.status) == (code, oom, 500)
    assert "canary" not in str(done) + capsys.readouterr().err


def test_a_cancel_is_seen_and_what_comes_after_is_counted_not_sent() -> None:
    go = threading.Event()
    engine = Scripted(Chunk(1, b"a", tokens=1), go, Chunk(1, b"late", tokens=3), Chunk(2, b"b"))

    def cancel(runner: BatchExecutor) -> None:
        runner.cancel(1)
        go.set()

    link = played(engine, cancel)
    assert engine.asked == [True, False]
    done = link.finished()
    assert (done[1].cancelled, done[1].tokens, done[1].overrun) == (True, 4, 3)
    assert not done[2].cancelled
    assert ("put", Chunk(1, b"late", tokens=3)) not in [entry[:2] for entry in link.said]


def test_late_cancel_has_no_effect() -> None:
    link = Recorder()
    BatchExecutor(Scripted(), link, Threads(1), HostMeter()).cancel(7)  # type: ignore[arg-type]  # a stand-in that records
    assert link.said == [("drop", 7)]


def test_settling_waits_until_the_engine_is_left() -> None:
    go, settled = threading.Event(), threading.Event()
    link = Recorder()
    runner = BatchExecutor(Scripted(ItemError(1, "no"), ItemError(2, "no"), go), link, Threads(1), HostMeter())  # type: ignore[arg-type]  # a stand-in that records
    runner.submit(BATCH)

    def settle() -> None:
        runner.settle()
        settled.set()

    thread = threading.Thread(target=settle)
    thread.start()
    assert not settled.wait(0.1), "both have ended, but the engine is still in its run"
    go.set()
    assert settled.wait(5)
    thread.join()
    assert link.finished().keys() == {1, 2}
    runner.settle()
    runner.engine = None
    with pytest.raises(AssertionError):
        runner.submit(BATCH)


def test_memory_is_read_at_the_first_and_the_last_of_a_stretch_whatever_comes_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes = itertools.count(1)
    meter = HostMeter()
    monkeypatch.setattr(meter, "read", lambda: (next(sizes), 0))
    monkeypatch.setattr(batch_executor, "READ_EVERY", 60)
    link = Recorder()
    runner = BatchExecutor(Scripted(), link, Threads(1), meter)  # type: ignore[arg-type]  # a stand-in that records
    for first in (1, 4):
        runner.submit([EngineRequest(number, Task.CHAT, b"{}") for number in range(first, first + 3)])
        runner.settle()
    assert [done.peak for done in link.finished().values()] == [1, 1, 2, 3, 3, 4]


def test_request_ends_although_its_memory_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unreadable() -> tuple[int, int]:
        raise OSError(24, "Too many open files")

    meter = HostMeter()
    monkeypatch.setattr(meter, "read", unreadable)
    link = Recorder()
    runner = BatchExecutor(Scripted(Chunk(1, b"a")), link, Threads(1), meter)  # type: ignore[arg-type]  # a stand-in that records
    runner.submit(BATCH)
    runner.settle()
    assert link.finished().keys() == {1, 2}
    assert "OSError at " in capsys.readouterr().err


def test_outputs_and_asking_for_a_cancel_are_steps() -> None:
    go = threading.Event()
    runner = BatchExecutor(Scripted(Chunk(1, b"a"), go, Chunk(2, b"b")), Recorder(), Threads(1), HostMeter())  # type: ignore[arg-type]  # a stand-in that records
    before = runner.steps
    runner.submit(BATCH)
    go.set()
    runner.settle()
    assert runner.steps == before + 2 + len(BATCH)
    assert runner.steps == runner.steps, "nothing has been done since"


def test_engine_that_is_held_up_by_a_reader_makes_progress() -> None:
    link = Recorder()
    runner = BatchExecutor(Scripted(), link, Threads(1), HostMeter())  # type: ignore[arg-type]  # a stand-in that records
    link.held_up = 1
    assert runner.steps < runner.steps
