"""A server under load records what it decides; another process decides the same."""

import json
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import Running, cohabit, serving

pytestmark = pytest.mark.process

CONFIG = """
device: {budget: 130MiB, keep_free: 0, compute_slots: 2}
scheduling: {max_wait: 1s}
models:
  a: {engine: fake, concurrency: 2, options: {idle: 30000000, run_seconds: 0.05}}
  b: {engine: fake, options: {idle: 30000000, run_seconds: 0.05}}
  c: {engine: fake, options: {idle: 30000000}, keep_alive: 1s}
"""
CANARY = "the-canary-sings-of-secrets"


def load(server: Running) -> list[int]:
    """Requests for all three models at once, good and bad; their status codes."""

    def ask(number: int) -> int:
        fake = {"fail": "die"} if number == 9 else {"fail": "item"} if number % 7 == 0 else {}
        answer = server.chat(f"{CANARY} {number}", model="abc"[number % 3], max_tokens=2, fake=fake)
        return answer.status_code

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, range(36)))


def journal_of(folder: Path) -> Path:
    """The one that a server has written."""
    [path] = (folder / "state" / "journal").iterdir()
    return path


def replay(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, and so with other hashes of strings."""
    return cohabit("replay", path, *options)


def test_what_a_server_decided_is_decided_again(tmp_path: Path) -> None:
    with serving(tmp_path, CONFIG, "--journal") as server:
        codes = load(server)
        assert {200, 400, 503} == set(codes)
        assert sum(server.model(name)["loads"] for name in "abc") > 3, "they took turns"
        assert server.stop() == 0
    path = journal_of(tmp_path)
    done = replay(path, "--json", "--snapshot")
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(done.stdout)
    assert data["same"]
    assert not data["cut_off"]
    assert data["events"] == len(path.read_bytes().splitlines()) - 1
    assert data["events"] > len(codes), "every request has an event, and so has what the models did"
    assert data["snapshot"]["shutting_down"]
    assert "Halt" in path.read_text().splitlines()[-1]
    text = path.read_text()
    assert "canary" not in text, "no prompt"
    assert "word word" not in text, "no answer"
    assert "127.0.0.1" not in text, "no address"


def test_a_killed_server_leaves_what_it_had_recorded(tmp_path: Path) -> None:
    with serving(tmp_path, f"server: {{journal: 1MiB}}\n{CONFIG}") as server:
        assert server.chat(model="a").status_code == 200
        folder = tmp_path / "state" / "journal"
        server.until(lambda: any("RequestFinished" in path.read_text() for path in folder.glob("*.jsonl")))
        os.kill(server.pid, signal.SIGKILL)
        server.process.wait()
    done = replay(journal_of(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("all commands are the same\n")


def test_off_unless_asked_for(tmp_path: Path) -> None:
    with serving(tmp_path, CONFIG) as server:
        assert server.chat(model="a").status_code == 200
    assert not (tmp_path / "state" / "journal").exists()
