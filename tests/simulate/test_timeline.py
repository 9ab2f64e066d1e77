"""What each model did and when, and how it is drawn."""

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from cohabit.core.commands import (
    Dispatch,
    Reject,
    Rejection,
    RejectReason,
    SleepWorker,
    StartWorker,
    StopCause,
    StopWorker,
    WakeWorker,
)
from cohabit.core.events import RequestArrived, RequestFinished, Slept, TimerFired, WorkerExited, WorkerReady
from cohabit.simulate.plot import bars, draw
from cohabit.simulate.timeline import Doing, Span, Timeline, TimelineRow
from simulate.small_fleet import two

EVICTED = (StopCause.EVICTED, "for a test")
REFUSED = Rejection(RejectReason.MAX_RUN, "no")


def told(row: TimelineRow) -> list[tuple[Doing, float, float]]:
    """In order of time."""
    spans = [(doing, span.begin, span.end) for doing, these in row.spans.items() for span in these]
    return sorted(spans, key=lambda span: span[1])


def test_timeline_of_two_models_that_take_turns() -> None:
    run = two()
    run.shell.ask("a", at=0.0, run_seconds=1.0)
    run.shell.ask("b", at=5.0, run_seconds=0.5)
    run.shell.run()
    run.timeline.close()
    assert told(run.timeline.rows["a"]) == [
        (Doing.LOADING, 0.0, 1.0),
        (Doing.SERVING, 1.0, 2.0),
        (Doing.IDLE, 2.0, 5.0),
        (Doing.LEAVING, 5.0, 5.02),
    ]
    assert told(run.timeline.rows["b"]) == [(Doing.LOADING, 5.02, 6.02), (Doing.SERVING, 6.02, 6.52)]
    assert run.timeline.rows["a"].waiting == [Span(0.0, 1.0)]
    assert run.timeline.rows["b"].waiting == [Span(5.0, 6.02)]


def test_timeline_shows_sleep_and_wake() -> None:
    timeline = Timeline()
    timeline.handled(RequestArrived(1, "a"), [StartWorker("a", 1)], 0.0)
    timeline.handled(WorkerReady(1, 1, 1, 1.0), [Dispatch("a", 1, (1,))], 1.0)
    timeline.handled(RequestFinished(1, 1, 1.0, 1), [SleepWorker("a", 1, *EVICTED)], 2.0)
    timeline.handled(Slept(1, 0, 1.0), [], 3.0)
    timeline.handled(RequestArrived(2, "a"), [WakeWorker("a", 1)], 4.0)
    timeline.handled(WorkerReady(1, 1, 1, 0.5), [], 4.5)
    timeline.handled(TimerFired(), [], 6.0)
    timeline.close()
    assert told(timeline.rows["a"]) == [
        (Doing.LOADING, 0.0, 1.0),
        (Doing.SERVING, 1.0, 2.0),
        (Doing.LEAVING, 2.0, 3.0),
        (Doing.ASLEEP, 3.0, 4.0),
        (Doing.WAKING, 4.0, 4.5),
        (Doing.IDLE, 4.5, 6.0),
    ]
    assert timeline.rows["a"].waiting == [Span(0.0, 1.0), Span(4.0, 6.0)]


def test_death_makes_requests_wait_again_unless_they_were_rejected() -> None:
    timeline = Timeline()
    timeline.handled(RequestArrived(1, "a"), [], 0.0)
    timeline.handled(RequestArrived(2, "a"), [StartWorker("a", 1)], 0.0)
    timeline.handled(WorkerReady(1, 1, 1, 1.0), [Dispatch("a", 1, (1,)), Dispatch("a", 1, (2,))], 1.0)
    timeline.handled(TimerFired(), [Reject(2, REFUSED)], 2.0)
    timeline.handled(WorkerExited(1, 0.0), [], 3.0)
    timeline.handled(TimerFired(), [Reject(1, REFUSED)], 5.0)
    timeline.handled(TimerFired(), [], 6.0)
    timeline.close()
    assert timeline.rows["a"].waiting == [Span(0.0, 1.0), Span(3.0, 5.0)]


def test_two_runs_beside_each_other_are_one_bar_and_a_late_end_brings_nobody_back() -> None:
    timeline = Timeline()
    timeline.handled(RequestArrived(1, "a"), [], 0.0)
    timeline.handled(RequestArrived(2, "a"), [StartWorker("a", 1)], 0.0)
    timeline.handled(WorkerReady(1, 1, 1, 1.0), [Dispatch("a", 1, (1,)), Dispatch("a", 1, (2,))], 1.0)
    timeline.handled(RequestFinished(1, 1, 1.0, 1), [], 2.0)
    timeline.handled(TimerFired(), [StopWorker("a", 1, StopCause.HUNG, "for a test", kill=True)], 3.0)
    timeline.handled(RequestFinished(2, 1, 2.5, 1), [], 3.5)
    timeline.handled(WorkerExited(1, 1.0), [], 4.0)
    timeline.close()
    assert told(timeline.rows["a"])[1:] == [(Doing.SERVING, 1.0, 3.0), (Doing.LEAVING, 3.0, 4.0)]


def test_spans_too_close_to_see_are_one_bar() -> None:
    spans = [Span(0.0, 1.0), Span(1.05, 2.0), Span(2.5, 2.5001), Span(9.0, 10.0)]
    assert bars(spans, dot=0.1) == [
        (0.0, 2.0),
        (2.5, pytest.approx(0.1)),
        (9.0, 1.0),
    ]
    assert bars([Span(60.0, 120.0)], dot=0.1, unit=60.0) == [(1.0, 1.0)]
    assert len(bars([Span(place / 1000, (place + 0.5) / 1000) for place in range(100_000)], dot=0.1)) == 1


@pytest.fixture(scope="module")
def timeline() -> Timeline:
    """A hundred models, one after the other, twice."""
    made = Timeline()
    worker = 0
    for number in range(200):
        name, now, worker = f"model-{number % 100}", 100.0 * number, worker + 1
        made.handled(RequestArrived(number, name), [StartWorker(name, worker)], now)
        made.handled(WorkerReady(worker, 1, 1, 40.0), [Dispatch(name, worker, (number,))], now + 40)
        made.handled(RequestFinished(number, worker, 30.0, 1), [StopWorker(name, worker, *EVICTED)], now + 70)
        made.handled(WorkerExited(worker, 0.1), [], now + 80)
    made.close()
    return made


def test_plot_of_a_hundred_models_is_written(timeline: Timeline, tmp_path: Path) -> None:
    draw(timeline.rows, timeline.ended, tmp_path / "t.png", "a hundred")
    with Image.open(tmp_path / "t.png") as picture:
        assert picture.format == "PNG"
        assert picture.width == 2400
        assert picture.height > 100 * 20, "a row can be read"
        seen = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
    assert {(0xE6, 0x61, 0x00), (0x1B, 0x7F, 0x3B), (0xB0, 0x00, 0x58)} <= seen, "loading, serving, waiting"


def test_plot_as_svg_is_written(timeline: Timeline, tmp_path: Path) -> None:
    draw(timeline.rows, timeline.ended, tmp_path / "t.svg", "a hundred")
    text = (tmp_path / "t.svg").read_text()
    assert ElementTree.fromstring(text).tag.endswith("svg")  # noqa: S314 - our own file
    for word in ("model-0", "model-99", "serving", "hours", "a hundred"):
        assert f"<!-- {word}" in text


def test_only_the_plot_imports_matplotlib() -> None:
    code = "import sys, cohabit.simulate.fleet, cohabit.simulate.report; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
