"""A journal holds what passed the core and nothing else, and never gets in the server's way."""

import errno
import io
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from cohabit.core.events import Started, TimerFired, WorkerExited
from cohabit.observability import journal
from harness import wait_until
from observability.recorded_run import Recorded


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The whole file."""
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def ends(logged: list[Any]) -> list[str]:
    """Why journals were said to have ended."""
    return [line["why"] for line in logged if line["event"] == "the journal ends"]


def test_journal_has_a_line_per_event(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "one.jsonl"
    recorded = Recorded(path)
    recorded.work()
    recorded.journal.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    head, *lines = lines_of(path)
    assert (head["schema"], head["device"], head["ledger"]["slots"]) == (2, "cpu", 2)
    assert [model["policy"]["name"] for model in head["models"]] == ["a", "b"]
    assert head["models"][0]["footprint"]["idle"] == {"size": 100 << 20, "origin": "declared"}
    assert len(lines) == recorded.events
    assert lines[0] == {
        "now": 1000.0,
        "event": {"Started": {}},
        "commands": [{"StartWorker": {"model": "a", "worker": 1, "keep_copy": False}}],
    }


def test_clients_are_told_apart_and_not_named(tmp_path: Path) -> None:
    recorded = Recorded(tmp_path / "one.jsonl")
    recorded.work()
    recorded.journal.close()
    assert b"10.0.0" not in (tmp_path / "one.jsonl").read_bytes()
    arrived = [
        line["event"]["RequestArrived"]
        for line in lines_of(tmp_path / "one.jsonl")[1:]
        if "RequestArrived" in line["event"]
    ]
    assert [event["client"] for event in arrived[:4]] == ["c1", "c2", "c3", "c1"]


def test_journal_is_on_disk_before_it_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "PERIOD", 0.01)
    path = tmp_path / "one.jsonl"
    recorded = Recorded(path)
    recorded.send(Started())
    wait_until(lambda: path.exists() and path.read_bytes().count(b"\n") == 1 + recorded.events)
    recorded.journal.close()


def test_journal_ends_at_its_limit_and_logs_it_once(tmp_path: Path) -> None:
    with capture_logs() as logged:
        recorded = Recorded(tmp_path / "one.jsonl", limit=4000)
        recorded.work()
        recorded.journal.close()
    assert ends(logged) == ["it has reached its limit"]
    data = (tmp_path / "one.jsonl").read_bytes()
    assert 3000 < len(data) <= 4000
    assert data.endswith(b"\n")


class Full(io.FileIO):
    """A disk that takes a hundred bytes at a time, until it is full."""

    room = 3000

    def write(self, data: Any) -> int:
        """Raises OSError once it is full."""
        if self.tell() >= self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data[:100])


def test_full_disk_ends_the_journal_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "FileIO", Full)
    monkeypatch.setattr(journal, "PERIOD", 0.01)
    with capture_logs() as logged:
        recorded = Recorded(tmp_path / "one.jsonl")
        recorded.work()
        wait_until(lambda: ends(logged))
        recorded.send(TimerFired())
        recorded.journal.close()
    assert ends(logged) == [os.strerror(errno.ENOSPC)]
    assert Full.room <= (tmp_path / "one.jsonl").stat().st_size < Full.room + 100


def test_folder_that_cannot_be_made_ends_the_journal_only(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with capture_logs() as logged:
        recorded = Recorded(tmp_path / "file" / "deep" / "one.jsonl")
        recorded.journal.close()
    assert ends(logged) == [os.strerror(errno.ENOTDIR)]


def test_slow_disk_ends_the_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "BACKLOG", 2000)
    monkeypatch.setattr(journal.Journal, "_write", lambda *_: None)
    with capture_logs() as logged:
        recorded = Recorded(tmp_path / "one.jsonl")
        recorded.work()
        recorded.journal.close()
    assert ends(logged) == ["the disk does not keep up"]


def test_event_that_json_cannot_hold_ends_the_journal_only(tmp_path: Path) -> None:
    with capture_logs() as logged:
        recorded = Recorded(tmp_path / "one.jsonl")
        recorded.send(WorkerExited(1, 0.0, detail="a path that is not UTF-8: \udcff"))
        recorded.send(Started())
        recorded.journal.close()
    [why] = ends(logged)
    assert why.startswith("WorkerExited cannot be written down: ")
    assert len(lines_of(tmp_path / "one.jsonl")) == 1


def test_oldest_journals_are_removed(tmp_path: Path) -> None:
    for number in range(10, 25):
        (tmp_path / f"20250101T0000{number}.000000Z.jsonl").touch()
    (tmp_path / "notes.txt").touch()
    Recorded(tmp_path / "20260101T000000.000000Z.jsonl").journal.close()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [
        *(f"20250101T0000{number}.000000Z.jsonl" for number in range(16, 25)),
        "20260101T000000.000000Z.jsonl",
        "notes.txt",
    ]


def test_existing_journal_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text("precious")
    with capture_logs() as logged:
        Recorded(tmp_path / "one.jsonl").journal.close()
    assert ends(logged) == [os.strerror(errno.EEXIST)]
    assert (tmp_path / "one.jsonl").read_text() == "precious"
