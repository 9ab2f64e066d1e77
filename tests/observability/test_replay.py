"""A journal replayed gives the same commands, and says where it does not."""

import json
from pathlib import Path

import pytest

from cohabit.core.commands import SetTimer
from cohabit.core.controller import Controller
from cohabit.core.events import RequestArrived, Started
from cohabit.core.snapshot import snapshot
from cohabit.observability.replay import JournalError, Replay
from observability.recorded_run import CLOCK, Recorded


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    """A life that has ended."""
    made = Recorded(tmp_path / "one.jsonl")
    made.work()
    made.journal.close()
    return made


@pytest.fixture
def path(tmp_path: Path, recorded: Recorded) -> Path:
    """Its journal."""
    assert recorded.events > 50
    return tmp_path / "one.jsonl"


def replayed(path: Path, until: int | None = None) -> Replay:
    """Through."""
    run = Replay(path)
    run.run(until)
    return run


def test_replay_gives_the_recorded_commands(path: Path, recorded: Recorded) -> None:
    run = replayed(path)
    assert (run.events, run.difference, run.cut_off) == (recorded.events, None, False)
    expected = snapshot(recorded.controller.state, run.now, "cpu")
    assert run.snapshot() == expected


def test_replay_stops_after_the_given_event(path: Path) -> None:
    run = replayed(path, until=0)
    assert (run.events, run.now) == (0, CLOCK)
    run.run(1)
    assert run.events == 1
    assert run.snapshot()["models"][0]["state"] == "starting"
    run.run(10**9)
    assert run.snapshot()["shutting_down"]


def test_replay_stops_at_the_first_difference(path: Path) -> None:
    lines = path.read_text().splitlines()
    number = next(number for number, line in enumerate(lines) if "StopWorker" in line)
    entry = json.loads(lines[number])
    entry["commands"] = [{"SetTimer": {"at": 1.0}}]
    path.write_text("\n".join([*lines[:number], json.dumps(entry), *lines[number + 1 :], ""]))
    run = replayed(path)
    assert run.events == number
    assert run.difference is not None
    assert run.difference.entry.commands == [SetTimer(1.0)]
    assert "StopWorker" in str(run.difference.replayed)


def test_replay_reports_an_event_that_raises(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AssertionError("books")

    monkeypatch.setattr(Controller, "handle", broken)
    run = replayed(path)
    assert run.events == 1
    assert run.difference is not None
    assert run.difference.entry.event == Started()
    assert run.difference.raised == "AssertionError: books"


def test_cut_off_last_line_is_left_out(path: Path, recorded: Recorded) -> None:
    path.write_bytes(path.read_bytes()[:-20])
    run = replayed(path)
    assert (run.events, run.difference, run.cut_off) == (recorded.events - 1, None, True)


@pytest.mark.parametrize(
    "broken", ["rubbish", "[]", '{"now": 1.0}', '{"now": 1, "event": {"No": {}}, "commands": []}']
)
def test_a_broken_line_is_named(path: Path, broken: str) -> None:
    lines = path.read_text().splitlines()
    lines[7] = broken
    path.write_text("\n".join([*lines, ""]))
    with pytest.raises(JournalError, match=r"one\.jsonl is no journal, or a broken one: line 8: ") as caught:
        replayed(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("first", "told"),
    [
        (b"", "has no first line"),
        (b'{"schema": 1', "has no first line"),
        (b'{"schema": 3}\n', "has schema 3; this cohabit reads schema 2"),
        (b'{"schema": 2}\n', "line 1: "),
        (b"\xff\xfe\n", "line 1: "),
        (b"[1]\n", "line 1: "),
    ],
)
def test_unreadable_head_is_an_error(tmp_path: Path, first: bytes, told: str) -> None:
    path = tmp_path / "other.jsonl"
    path.write_bytes(first)
    with pytest.raises(JournalError, match=told):
        Replay(path)


@pytest.mark.parametrize(("was", "becomes"), [('"idle":', '"idles":'), ('"origin":"declared"', '"origin":"heaven"')])
def test_head_that_makes_no_controller_is_an_error(path: Path, was: str, becomes: str) -> None:
    path.write_text(path.read_text().replace(was, becomes, 1))
    with pytest.raises(JournalError, match="line 1: "):
        Replay(path)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match=r"none\.jsonl cannot be read: No such file"):
        Replay(tmp_path / "none.jsonl")
    with pytest.raises(JournalError, match="cannot be read: Is a directory"):
        Replay(tmp_path)


def test_replayed_clients_take_turns_as_recorded(tmp_path: Path) -> None:
    made = Recorded(tmp_path / "turns.jsonl")
    for request, client in enumerate(["x", "x", "x", "y", "y", "z"], start=1):
        made.send(RequestArrived(request, "a", client))
    made.journal.close()
    assert replayed(tmp_path / "turns.jsonl").difference is None
