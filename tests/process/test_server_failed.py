"""A bug in the server itself: everybody is told, and it exits so that it is restarted. Or it goes on, and says so."""

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from cohabit.runtime.sampler import UNREADABLE_AFTER
from cohabit.runtime.supervision import FIRST_PAUSE, LONGEST_PAUSE
from harness import Running, serving, wait_until

pytestmark = pytest.mark.process

FAULTS = Path(__file__).parents[1] / "faults"
CONFIG = """
server: {drain: 5s}
device: {budget: 1GiB, keep_free: 0, compute_slots: 2}
models:
  a: {engine: fake, options: {tokens: 2}}
  slow: {engine: fake, options: {run_seconds: 60}}
"""


@contextmanager
def faulty(
    place: str, folder: Path, monkeypatch: pytest.MonkeyPatch, config: str = CONFIG
) -> Iterator[tuple[Running, Path]]:
    """A server with a bug there, which shows while the file exists."""
    switch = folder / "switch"
    monkeypatch.setenv("PYTHONPATH", str(FAULTS))
    monkeypatch.setenv("FAULT", place)
    monkeypatch.setenv("FAULT_SWITCH", str(switch))
    with serving(folder, config) as server:
        yield server, switch


def code(answer: httpx2.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize("place", ["core", "execute", "observer"])
def test_after_a_bug_in_the_core_everybody_is_told_and_the_server_exits_with_1(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadPoolExecutor(8) as clients, faulty(place, tmp_path, monkeypatch) as (server, switch):
        assert server.chat(model="a").status_code == 200
        waiting = [clients.submit(server.chat, model="slow") for _ in range(4)]
        server.until(lambda: [server.model("slow")[kind] for kind in ("in_flight", "waiting")] == [1, 3])
        workers = [psutil.Process(pid) for pid in server.workers()]
        assert len(workers) == 2
        switch.touch()
        began = time.monotonic()
        waiting.append(clients.submit(server.chat, model="a"))  # or any other event
        told = [code(one.result(10)) for one in waiting]
        assert told == [(503, "server_failed")] * 5
        assert server.process.wait(10) == 1
        assert time.monotonic() - began < 10, "promised are two seconds, on a machine that has nothing else to do"
        psutil.wait_procs(workers, timeout=5)
        assert not any(worker.is_running() for worker in workers)
        with pytest.raises(httpx2.HTTPError):
            server.chat(model="a")
        assert "a bug that a test put here" in server.log.read_text()


def test_server_that_failed_is_not_stopped_by_a_drain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadPoolExecutor(1) as clients, faulty("core", tmp_path, monkeypatch) as (server, switch):
        running = clients.submit(server.chat, model="slow")
        server.until(lambda: server.model("slow")["in_flight"] == 1)
        server.process.send_signal(signal.SIGINT)
        switch.touch()
        assert code(running.result(10)) in {(503, "server_failed"), (503, "shutting_down")}
        assert server.process.wait(10) == 1


@pytest.mark.parametrize(("place", "task"), [("device", "sampler"), ("watchdog", "watchdog")])
def test_task_that_fails_is_started_again_and_told(
    place: str, task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(place, tmp_path, monkeypatch) as (server, switch):
        switch.touch()
        wait_until(lambda: server.metric("cohabit_task_restarts_total", task=task) >= 2)
        assert any(f"the task {task!r} fails" in alert["text"] for alert in server.status()["alerts"])
        switch.unlink()
        time.sleep(FIRST_PAUSE)
        assert server.chat(model="a").status_code == 200
        server.until(lambda: server.log.read_text().count('"task failed"') >= 2)  # a thread writes the log
        failed = [json.loads(line) for line in server.log.read_text().splitlines() if '"task failed"' in line]
        assert {entry["task"] for entry in failed} == {task}
        assert all("sitecustomize.py" in entry["where"][0] for entry in failed)


def test_device_that_cannot_be_read_is_red_and_loads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with faulty("device", tmp_path, monkeypatch, CONFIG + "scheduling: {max_wait: 2s}\n") as (server, switch):
        assert server.chat(model="a").status_code == 200
        assert server.http.get("/health/ready").status_code == 200
        switch.touch()
        wait_until(lambda: server.http.get("/health/ready").status_code == 503, UNREADABLE_AFTER + 10)
        assert any("the device cannot be read" in alert["text"] for alert in server.status()["alerts"])
        assert server.chat(model="a").status_code == 200, "what is ready goes on"
        assert code(server.chat(model="slow")) == (503, "device_unreadable")
        assert server.model("slow")["loads"] == 0
        switch.unlink()
        wait_until(lambda: server.http.get("/health/ready").status_code == 200, LONGEST_PAUSE + 10)
        assert server.chat(model="slow", fake={"run_seconds": 0}).status_code == 200


@pytest.mark.parametrize("place", ["worker", "limit"])
def test_worker_whose_supervision_fails_ends_like_any_that_died(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faulty(place, tmp_path, monkeypatch) as (server, switch):
        switch.touch()
        answer = server.chat(model="a")
        assert code(answer) == (503, "model_failed")
        assert "the server failed in supervising its worker" in server.model("a")["failure"]
        server.until(lambda: server.workers() == [])
        switch.unlink()
        assert server.http.post("/admin/models/a/load").status_code == 200, "the owner may try at once"
        assert server.chat(model="a").status_code == 200
