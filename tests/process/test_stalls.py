"""A run that hangs: health tells, its worker is ended, and only the request that is to blame is lost."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import PATIENCE, serving

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

CONFIG = """
server: {stall: 5s}
device: {budget: 1GiB, keep_free: 0, compute_slots: 1}
models:
  a: {engine: fake, concurrency: 2, max_stall: 15s, options: {tokens: 2}}
  b: {engine: fake, options: {tokens: 2}}
"""


def test_hang_turns_health_red_ends_the_worker_and_costs_only_its_own_request(tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as clients, serving(tmp_path, CONFIG) as server:
        for name in "ab":
            assert server.chat(model=name).status_code == 200
        hung = clients.submit(server.chat, model="a", fake={"fail": "hang"})
        server.until(lambda: server.model("a")["in_flight"] == 1)
        waits = clients.submit(server.chat, model="b")
        server.until(lambda: server.model("b")["waiting"] == 1)
        assert server.http.get("/health/ready").status_code == 200
        server.until(lambda: server.http.get("/health/ready").status_code == 503)
        assert "server.stall" in server.http.get("/health/ready").json()["error"]["message"]
        assert any("server.stall" in alert["text"] for alert in server.status()["alerts"])
        answer = hung.result(PATIENCE)
        assert (answer.status_code, answer.json()["error"]["code"]) == (408, "stalled")
        assert answer.headers["x-should-retry"] == "false"
        assert waits.result(PATIENCE).status_code == 200
        assert server.chat(model="a").status_code == 200
        server.until(lambda: "blamed_request" in server.log.read_text())
        server.until(lambda: server.http.get("/health/ready").status_code == 200)


def test_long_run_that_makes_progress_is_neither(tmp_path: Path) -> None:
    short = CONFIG.replace("max_stall: 15s", "max_stall: 10s").replace("stall: 5s", "stall: 10s")
    with ThreadPoolExecutor(1) as clients, serving(tmp_path, short) as server:
        running = clients.submit(server.chat, model="a", fake={"run_seconds": 15})
        while not running.done():
            time.sleep(0.1)
            assert server.http.get("/health/ready").status_code == 200
        assert running.result().status_code == 200
