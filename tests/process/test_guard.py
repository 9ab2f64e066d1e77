"""Workers that hold more memory than they may are ended, alone: on real processes, with the fake engine."""

import json
import resource
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import Running, memory_watch, serving

pytestmark = pytest.mark.process

MIB = 1 << 20
OVER = 64 * MIB  # beyond the budget, for no longer than 200 ms
CONFIG = """
device: {budget: 300MiB, keep_free: 0, compute_slots: 4}
models:
  a: {engine: fake, concurrency: 4, options: {run_seconds: 0.3}}
  b: {engine: fake, options: {idle: 50000000}}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    """Two fake models, both in."""
    with serving(tmp_path, CONFIG) as running:
        assert running.chat(model="a").status_code == 200
        assert running.chat(model="b").status_code == 200
        yield running


def longest_over(samples: list[int], budget: int) -> int:
    """How many samples in a row are over the budget."""
    longest = now = 0
    for size in samples:
        now = now + 1 if size > budget else 0
        longest = max(longest, now)
    return longest


@pytest.mark.parametrize("activation", [450_000_000, 2_000_000_000])
def test_a_request_that_takes_too_much_ends_alone(server: Running, activation: int) -> None:
    with memory_watch(server.pid) as watch, ThreadPoolExecutor(4) as pool:
        honest = [pool.submit(server.chat, model="a") for _ in range(2)]
        beside = pool.submit(server.chat, model="b", fake={"run_seconds": 1.0})
        bad = pool.submit(server.chat, model="a", fake={"activation": activation}).result()
        assert [one.result().status_code for one in (*honest, beside)] == [200, 200, 200]
    error = bad.json()["error"]
    assert (bad.status_code, error["code"]) in {(413, "memory_limit_exceeded"), (503, "out_of_memory")}
    assert "make it smaller" in error["message"]
    assert watch.most <= 300 * MIB + OVER
    assert longest_over(watch.samples, 300 * MIB) <= 4, "samples of 50 ms"
    assert server.model("b")["loads"] == 1
    assert server.chat(model="a").status_code == 200


def test_it_is_counted_and_told_and_the_model_stays_in_service(server: Running) -> None:
    for _ in range(3):
        bad = server.chat(model="a", fake={"activation": 450_000_000})
        assert bad.json()["error"]["code"] in {"memory_limit_exceeded", "out_of_memory"}
    assert server.metric("cohabit_overruns_total", model="a") >= 1
    assert any(alert["text"].startswith("a held ") for alert in server.status()["alerts"])
    assert server.chat(model="a").status_code == 200
    footprint = server.model("a")["footprint"]
    assert footprint["inference"]["bytes"] <= 300 * MIB


def test_a_wrong_guess_is_measured_where_there_is_room(server: Running) -> None:
    assert server.chat(model="a", fake={"activation": 60_000_000}).status_code == 200
    footprint = server.model("a")["footprint"]["inference"]
    assert footprint["origin"] == "measured"
    idle = server.model("a")["footprint"]["idle"]
    assert footprint["bytes"] - idle["bytes"] > 50_000_000


def test_the_kernel_is_told_a_limit_that_no_other_run_lowers_too_far(server: Running) -> None:
    def limit(name: str) -> int:
        return resource.prlimit(server.model(name)["pid"], resource.RLIMIT_DATA)[0]

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(server.chat, model="a", fake={"run_seconds": 1.0})
        server.until(lambda: 300 * MIB < limit("a") < 3000 * MIB)
        assert running.result().status_code == 200


def test_a_load_that_takes_more_than_was_guessed_comes_in_if_the_budget_has_room(tmp_path: Path) -> None:
    config = """
device: {budget: 300MiB, keep_free: 0}
models:
  a: {engine: fake, options: {idle: 150000000}, footprint: {idle: 30MiB, inference: 31MiB, load: 30MiB}}
  b: {engine: fake, options: {idle: 100000000}}
"""
    with serving(tmp_path, config) as server:
        assert server.chat(model="b").status_code == 200
        with memory_watch(server.pid) as watch:
            assert server.chat(model="a").status_code == 200
        assert watch.most <= 300 * MIB + OVER
        assert server.model("a")["footprint"]["idle"]["origin"] == "measured"


def test_a_load_that_never_fits_is_told_so(tmp_path: Path) -> None:
    config = """
device: {budget: 200MiB, keep_free: 0}
models:
  a: {engine: fake, options: {idle: 400000000}, footprint: {idle: 30MiB, inference: 31MiB, load: 30MiB}}
  b: {engine: fake}
"""
    with serving(tmp_path, config) as server, memory_watch(server.pid) as watch:
        bad = server.chat(model="a")
        assert (bad.status_code, bad.json()["error"]["code"]) == (503, "model_failed")
        assert "more than the" in server.model("a")["failure"]
        assert server.chat(model="b").status_code == 200
        assert watch.most <= 200 * MIB + OVER


def test_a_measured_figure_does_not_keep_the_server_from_starting(tmp_path: Path) -> None:
    config = "device: {budget: 300MiB, keep_free: 0}\nmodels: {a: {engine: fake}}"
    with serving(tmp_path, config) as server:
        assert server.chat(model="a").status_code == 200
        assert server.stop() == 0
    file = tmp_path / "state" / "footprints.json"
    kept = json.loads(file.read_text())
    for profile in kept["profiles"].values():
        profile["activation"] = 5000 * MIB
    file.write_text(json.dumps(kept))
    with serving(tmp_path, config) as server:
        assert server.chat(model="a").status_code == 200
