"""``cohabit replay`` as a user types it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cohabit.cli.main import app
from observability.recorded_run import Recorded


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The journal of a short life."""
    recorded = Recorded(tmp_path / "one.jsonl")
    recorded.work()
    recorded.journal.close()
    return tmp_path / "one.jsonl"


def replay(*arguments: object) -> Result:
    """One command."""
    return CliRunner().invoke(app, ["replay", *map(str, arguments)])


def events(path: Path) -> int:
    """How many it holds."""
    return len(path.read_bytes().splitlines()) - 1


def other_commands(path: Path, number: int) -> None:
    """Let an event have been answered in another way."""
    lines = path.read_text().splitlines()
    lines[number] = json.dumps({**json.loads(lines[number]), "commands": [{"Halt": {}}]})
    path.write_text("\n".join([*lines, ""]))


def test_replay_with_the_same_commands_exits_with_0(path: Path) -> None:
    done = replay(path)
    assert done.exit_code == 0
    first, version, last = done.stdout.splitlines()
    assert first.startswith(f"{events(path)} events in ")
    assert first.endswith(" s from 2026-01-02T03:04:05.000+00:00")
    assert version.startswith("recorded by cohabit 0.0.1, which may decide otherwise than ")
    assert last == "all commands are the same"


def test_replay_with_other_commands_prints_both_and_exits_with_1(path: Path) -> None:
    other_commands(path, 1)
    done = replay(path)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[2:] == [
        "event 1 at 2026-01-02T03:04:05.000+00:00 gives other commands: Started()",
        "recorded:",
        "  Halt()",
        "replayed:",
        "  StartWorker(model='a', worker=1, keep_copy=False)",
    ]


def test_replay_as_json(path: Path) -> None:
    done = replay(path, "--json")
    data = json.loads(done.stdout)
    assert (data["same"], data["events"], data["cut_off"], data["cohabit"]) == (True, events(path), False, "0.0.1")
    assert "snapshot" not in data
    other_commands(path, 3)
    done = replay(path, "--json", "--snapshot")
    assert done.exit_code == 1
    data = json.loads(done.stdout)
    assert (data["same"], data["events"]) == (False, 3)
    assert data["difference"]["recorded"] == [{"Halt": {}}]
    assert data["difference"]["raised"] is None
    assert list(data["difference"]["event"]) == ["RequestArrived"]
    assert data["snapshot"]["devices"][0]["name"] == "cpu"


def test_replay_shows_the_snapshot_at_an_event(path: Path) -> None:
    done = replay(path, "--until", 1, "--snapshot")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[0].startswith("1 events in 0.0 s")
    assert "a  starting" in done.stdout
    assert json.loads(replay(path, "--until", 1, "--snapshot", "--json").stdout)["at"].startswith(
        "2026-01-02T03:04:05"
    )


def test_replay_prints_an_event_that_raises(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise AssertionError("books")

    monkeypatch.setattr("cohabit.core.controller.Controller.handle", broken)
    done = replay(path)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1].endswith(", Started(): the core raised AssertionError: books")


def test_replay_mentions_a_cut_off_line(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])
    done = replay(path)
    assert done.exit_code == 0
    assert "the last line is cut off and left out: its server was killed" in done.stdout


def test_file_that_is_no_journal_is_one_line_and_code_2(path: Path) -> None:
    for broken in (path.with_name("none"), path.parent):
        done = replay(broken)
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    path.write_text("rubbish\n")
    done = replay(path)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
