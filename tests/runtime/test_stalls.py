"""What hangs is told from what takes long."""

from types import SimpleNamespace
from typing import Any

import pytest

from cohabit.runtime.stalls import PERIOD, StallDetector

AFTER = 60.0
MAX_STALL = 120.0


class Runtime:
    """Workers and open requests as the detector sees them, and the time."""

    def __init__(self) -> None:
        self.workers: dict[int, Any] = {}
        self.inflight = SimpleNamespace(streams={}, ended=0)
        self.ended: list[tuple[int, int | None]] = []
        self.detector = StallDetector(
            self.workers,
            self.inflight,  # type: ignore[arg-type]  # a stand-in
            after=AFTER,
            max_stall={"m": MAX_STALL},
            end=self.end,
        )
        self.now = self.detector._looked_at

    def end(self, worker: int, seconds: float, blamed: int | None) -> None:
        assert seconds == MAX_STALL
        self.ended.append((worker, blamed))
        self.workers[worker].failed = "its runs made no progress"

    def worker(self, number: int, *, within: bool = False) -> Any:
        found: Any = SimpleNamespace(id=number, model="m", signs=0, failed=None, within=within, send=lambda _: None)
        found.is_within_a_limit = lambda: found.within
        self.workers[number] = found
        return found

    def ask(self, request: int, worker: int | None = None, ago: float = 0.0) -> Any:
        given_to = None if worker is None else self.workers[worker]
        stream = SimpleNamespace(worker=given_to, finished=None, dispatched=self.now - ago)
        self.inflight.streams[request] = stream
        return stream

    def pass_time(self, seconds: float) -> None:
        """Looking all the while."""
        end = self.now + seconds
        while self.now < end:
            self.now += PERIOD
            self.detector.look(self.now)

    @property
    def stalled(self) -> bool:
        return self.detector.stalled(self.now)


@pytest.fixture
def runtime() -> Runtime:
    return Runtime()


def test_idle_server_is_not_stalled_however_long(runtime: Runtime) -> None:
    runtime.worker(1)
    runtime.pass_time(3600)
    assert not runtime.stalled
    runtime.ask(1)
    assert not runtime.stalled, "it has only just come"
    runtime.pass_time(AFTER - PERIOD)
    assert not runtime.stalled


def test_request_that_waits_while_nothing_goes_on_is_a_stall(runtime: Runtime) -> None:
    runtime.ask(1)
    runtime.pass_time(AFTER + PERIOD)
    assert runtime.stalled
    runtime.inflight.streams.clear()
    assert not runtime.stalled, "nobody waits any more"


def test_run_that_hangs_from_its_first_moment_is_a_stall_in_time(runtime: Runtime) -> None:
    runtime.worker(1)
    runtime.pass_time(100)
    runtime.ask(1, worker=1)
    runtime.ask(2)
    runtime.pass_time(AFTER - PERIOD)
    assert not runtime.stalled
    del runtime.inflight.streams[1]  # it is told that it took too long, and hangs on
    runtime.pass_time(PERIOD)
    assert runtime.stalled


def test_run_that_gives_signs_is_no_stall(runtime: Runtime) -> None:
    worker = runtime.worker(1)
    runtime.ask(1, worker=1)
    runtime.ask(2)
    for _ in range(30):
        worker.signs += 1
        runtime.pass_time(50)
        assert not runtime.stalled
    assert runtime.ended == []


def test_requests_that_end_are_progress(runtime: Runtime) -> None:
    runtime.ask(1)
    for _ in range(5):
        runtime.inflight.ended += 1
        runtime.pass_time(50)
        assert not runtime.stalled


def test_load_that_is_within_its_limit_is_no_stall(runtime: Runtime) -> None:
    worker = runtime.worker(1, within=True)
    runtime.ask(1)
    runtime.pass_time(1800)
    assert not runtime.stalled
    worker.within = False
    runtime.pass_time(AFTER + PERIOD)
    assert runtime.stalled


def test_answer_that_only_its_client_has_still_to_read_is_no_stall(runtime: Runtime) -> None:
    runtime.worker(1)
    runtime.ask(1, worker=1).finished = 1.0
    runtime.pass_time(300)
    assert not runtime.stalled
    assert runtime.ended == []


def test_worker_without_progress_is_ended_and_its_newest_request_blamed(runtime: Runtime) -> None:
    runtime.worker(1)
    runtime.ask(1, worker=1, ago=30.0)
    runtime.ask(3, worker=1, ago=10.0)
    runtime.ask(2, worker=1, ago=20.0)
    runtime.pass_time(MAX_STALL - 10 - PERIOD)
    assert runtime.ended == [], "it has had the newest for less than that"
    runtime.pass_time(3 * PERIOD)
    assert runtime.ended == [(1, 3)], "once"


def test_of_a_batch_nobody_is_blamed(runtime: Runtime) -> None:
    runtime.worker(1)
    for request in (1, 2):
        runtime.ask(request, worker=1, ago=30.0)
    runtime.pass_time(MAX_STALL + PERIOD)
    assert runtime.ended == [(1, None)]


def test_idle_worker_is_not_ended(runtime: Runtime) -> None:
    runtime.worker(1)
    runtime.worker(2).signs = 5
    runtime.ask(1)
    runtime.pass_time(3600)
    assert runtime.ended == []


def test_time_in_which_the_server_itself_stood_still_does_not_count(runtime: Runtime) -> None:
    runtime.worker(1)
    runtime.ask(1, worker=1)
    runtime.pass_time(30)
    runtime.now += 1000
    runtime.detector.look(runtime.now)
    assert not runtime.stalled
    assert runtime.ended == []
