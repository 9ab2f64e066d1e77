"""Crowds do not hold up the event loop: none of its steps takes more than 50 ms of its thread's processor time."""

import json
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

import steps
from cohabit.core.snapshot import LISTED
from cohabit.schemas.inference import MAX_ITEMS
from harness import Running, serving

pytestmark = pytest.mark.process

CONFIG = """
device: {budget: 512MiB}
models:
  quick: {engine: fake, concurrency: 64}
  stuck: {engine: fake, queue_limit: 40000, options: {run_seconds: 600}}  # of which batches fill a half
  broken: {engine: fake, queue_limit: 40000, options: {load_seconds: 12, fail: load}}
"""
CROWD = 4  # batches


@dataclass
class Measured:
    """A server, and what its event loop did."""

    server: Running
    file: Path

    def forget(self) -> None:
        """What it did so far."""
        self.file.unlink(missing_ok=True)

    def steps(self) -> list[steps.Step]:
        """Those that were noted, the longest first."""
        self.server.http.get("/health/live")  # what answered before has ended by then
        return steps.noted(self.file)

    def check(self) -> None:
        """No step was too long. Of what collecting garbage takes no single step is the cause; it is noted beside."""
        assert [step for step in self.steps() if step.seconds - step.collecting > steps.MOST] == []


@contextmanager
def measured(folder: Path, config: str = CONFIG) -> Iterator[Measured]:
    """A server that has answered something, so that what it imports late is there."""
    file = folder / "steps.jsonl"
    with serving(folder, config, within=steps.within(file)) as server:
        assert server.chat(model="quick").status_code == 200
        found = Measured(server, file)
        found.forget()
        yield found


def chats(model: str, count: int = MAX_ITEMS, size: int = 10) -> list[dict[str, Any]]:
    """Items of a batch; each has ``size`` bytes of text."""
    text = "x" * size
    return [{"type": "chat", "model": model, "data": {"prompt": f"{text}{index}"}} for index in range(count)]


def test_a_long_step_is_noted_with_where_it_was(tmp_path: Path) -> None:
    script, file = tmp_path / "busy.py", tmp_path / "steps.jsonl"
    script.write_text(
        "import asyncio, time, uvloop\n"
        "def spin(seconds):\n"
        "    end = time.thread_time() + seconds\n"
        "    while time.thread_time() < end: pass\n"
        "async def main():\n"
        "    await asyncio.sleep(0)\n"
        "    time.sleep(0.1)\n"
        "    await asyncio.sleep(0)\n"
        "    spin(0.06)\n"
        "uvloop.run(main())\n"
    )
    subprocess.run([*steps.within(file), script], check=True)
    longest, *others = steps.noted(file)
    assert longest.seconds > steps.MOST
    assert any("spin" in each for each in longest.where)
    assert all(step.seconds < steps.MOST for step in others), "to sleep takes no processor time"


@pytest.mark.parametrize("headers", [{}, {"accept": "application/x-ndjson"}])
def test_a_batch_of_as_many_items_as_may_be(tmp_path: Path, headers: dict[str, str]) -> None:
    body = json.dumps(chats("quick", size=7000)).encode()
    with measured(tmp_path) as found:
        answer = found.server.http.post("/batch", content=body, headers=headers)
        assert answer.text.count('"result":') == MAX_ITEMS
        found.check()


@contextmanager
def crowd(server: Running, model: str, headers: str = "") -> Iterator[list[socket.socket]]:
    """Clients whose batches for a model are all queued; who leaves the block hangs up."""
    body = json.dumps(chats(model)).encode()
    head = f"POST /batch HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n{headers}\r\n".encode()
    url = httpx2.URL(server.url)
    with ExitStack() as clients:
        connections = [clients.enter_context(socket.create_connection((url.host, url.port))) for _ in range(CROWD)]
        for connection in connections:
            connection.sendall(head + body)
        server.until(lambda: accepted(server, model) == CROWD * MAX_ITEMS, seconds=60)
        yield connections


def accepted(server: Running, model: str) -> int:
    """Requests that a model has."""
    found = server.model(model)
    return int(found["waiting"] + found["in_flight"])


def test_a_crowd_waits_is_looked_at_and_hangs_up(tmp_path: Path) -> None:
    with measured(tmp_path) as found:
        with crowd(found.server, "stuck"):
            status = found.server.status()
            assert len(status["requests"]) == LISTED + 1
            assert "cohabit_model_requests" in found.server.http.get("/metrics").text
        found.server.until(lambda: not found.server.model("stuck")["waiting"], seconds=60)
        found.check()


def test_the_time_of_a_crowd_passes(tmp_path: Path) -> None:
    with measured(tmp_path) as found, crowd(found.server, "stuck", "x-request-timeout: 12\r\n") as clients:
        for client in clients:
            client.settimeout(30)
            assert client.recv(15).startswith(b"HTTP/1.1 200")
        assert not found.server.model("stuck")["waiting"]
        found.check()


def test_a_crowd_waits_for_a_model_that_cannot_be_loaded_while_the_events_are_read(tmp_path: Path) -> None:
    with measured(tmp_path) as found, found.server.http.stream("GET", "/admin/events"):
        with crowd(found.server, "broken") as clients:
            for client in clients:
                client.settimeout(30)
                assert client.recv(15).startswith(b"HTTP/1.1 200")
        assert found.server.metric("cohabit_rejections_total", reason="model_failed") == CROWD * MAX_ITEMS
        found.check()


def test_thousands_of_files_and_batches_are_listed(tmp_path: Path) -> None:
    line = {"custom_id": "1", "method": "POST", "url": "/v1/embeddings", "body": {"model": "quick", "input": "x"}}
    with measured(tmp_path) as found:
        http = found.server.http
        sent = http.post("/v1/files", files={"file": ("x.jsonl", json.dumps(line))}, data={"purpose": "batch"})
        file = sent.json()["id"]
        made = {"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"}
        batch = http.post("/v1/batches", json=made).json()["id"]
        found.server.until(lambda: http.get(f"/v1/batches/{batch}").json()["status"] == "completed")
        for table, row in (("files", file), ("batches", batch)):
            copied(tmp_path / "state" / "batches.db", table, row)
        found.forget()
        assert len(http.get("/v1/files", params={"limit": 10_000}).json()["data"]) > COPIES
        assert len(http.get("/v1/batches", params={"limit": 100}).json()["data"]) == 100
        found.check()


COPIES = 5000


def copied(path: Path, table: str, row: str) -> None:
    """More rows like this one in a database."""
    with closing(sqlite3.connect(path)) as database, database:
        names = [name for _, name, *_ in database.execute(f"PRAGMA table_info({table})") if name != "id"]
        columns = ", ".join(names)
        database.executemany(
            f"INSERT INTO {table} (id, {columns}) SELECT id || ?, {columns} FROM {table} WHERE id = ?",  # noqa: S608 - names of ours
            [(f"{number:05}", row) for number in range(COPIES)],
        )


def test_a_file_of_many_lines_is_sent_and_read(tmp_path: Path) -> None:
    line = {"method": "POST", "url": "/v1/embeddings", "body": {"model": "quick", "input": "x"}}
    lines = "".join(json.dumps({"custom_id": str(number), **line}) + "\n" for number in range(50_000))
    with measured(tmp_path) as found:
        http = found.server.http
        http.get("/v1/files")  # opens the database, for which much is imported
        found.forget()
        sent = http.post("/v1/files", files={"file": ("x.jsonl", lines)}, data={"purpose": "batch"})
        made = {"input_file_id": sent.json()["id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
        batch = http.post("/v1/batches", json=made).json()["id"]
        found.server.until(lambda: http.get(f"/v1/batches/{batch}").json()["status"] == "in_progress")
        assert http.get(f"/v1/files/{sent.json()['id']}/content").text == lines
        http.post(f"/v1/batches/{batch}/cancel")
        found.server.until(lambda: http.get(f"/v1/batches/{batch}").json()["status"] == "cancelled", seconds=60)
        found.check()
