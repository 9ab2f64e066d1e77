"""The server on a card that is a stand-in (``tests/card``): NVML and CUDA's driver are replaced, all else is real.

What a real card does is tested by ``benchmarks/gpu`` and ``tests/worker/test_card.py``, where there is one.
"""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from card import books
from harness import Running, Watch, cohabit, home, serving

TESTS = Path(__file__).parents[1]

pytestmark = pytest.mark.process

MIB = 1 << 20
BUDGET = 330


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of 1 GiB, for the server and its workers."""
    where = tmp_path / "card"
    books.make(where, total=1024 * MIB)
    monkeypatch.setenv("PYTHONPATH", f"{TESTS / 'card'}:{TESTS}")
    monkeypatch.setenv(books.FOLDER, str(where))
    return where


def watched(card: Path) -> Watch:
    """Of what is not free, as seen from outside: what the dead held too, until the card shows it free."""
    return Watch(lambda: books.used(card), every=0.005)


def config(*, host_cache: str, **options: Any) -> str:
    """Three models of 100 MiB, of which two fit beside a sleeper."""
    fields = {"idle": 100 * MIB, "activation": 10 * MIB, "load_seconds": 0.3, "wake_seconds": 0.01, **options}
    models = "\n".join(
        f"  {name}: {{engine: fake, footprint: {{idle: 140MiB, inference: 150MiB}}, options: {fields}}}"
        for name in "abc"
    )
    return f"""
device: {{kind: "cuda:0", budget: {BUDGET}MiB, keep_free: 100MiB, host_cache: {host_cache}}}
scheduling: {{max_wait: 5s}}
models:
{models}
"""


@pytest.fixture
def host_cache() -> str:
    """What copies may take."""
    return "1GiB"


@pytest.fixture
def measured(card: Path, tmp_path: Path) -> None:
    """``cohabit measure`` has been run: what is guessed of a card's context is more than these models have in all."""
    path = tmp_path / "measured.yaml"
    path.write_text(config(host_cache="1GiB"))
    done = cohabit("measure", path, env=os.environ | {"COHABIT_HOME": str(home(tmp_path))}, seconds=60)
    assert done.returncode == 0, done.stderr
    assert "100 MiB" in done.stdout.splitlines()[2].rpartition("40 MiB")[2], "the copy beside the residue"
    assert books.held(card) == {}


@pytest.fixture
def server(card: Path, tmp_path: Path, host_cache: str) -> Iterator[Running]:
    """On the card."""
    with serving(tmp_path, config(host_cache=host_cache)) as running:
        yield running


def chat(server: Running, model: str, **fake: Any) -> int:
    """One request; its status."""
    body = {"model": model, "messages": [{"role": "user", "content": "x"}], "fake": fake}
    return server.http.post("/v1/chat/completions", json=body).status_code


def models(server: Running) -> dict[str, Any]:
    """As the status has them."""
    return {entry["name"]: entry for entry in server.http.get("/admin/status").json()["models"]}


@pytest.mark.usefixtures("measured")
def test_models_wake_from_host_copies_within_the_budget(server: Running, card: Path) -> None:
    with watched(card) as watch:
        for _ in range(3):
            for name in "abc":
                assert chat(server, name) == 200
    assert 200 * MIB < watch.most <= BUDGET * MIB
    found = models(server)
    assert sum(entry["loads"] for entry in found.values()) == 3, "each was loaded once"
    assert sum(entry["wakes"] for entry in found.values()) >= 3
    assert [entry["host_copy"] for entry in found.values()] == [100 * MIB] * 3
    asleep = next(entry for entry in found.values() if entry["state"] == "sleeping")
    assert asleep["idle"] == 40 * MIB, "the context"
    assert books.held(card)[asleep["pid"]] == 40 * MIB
    assert psutil.Process(asleep["pid"]).memory_info().rss > 100 * MIB, "in host memory"
    device = server.http.get("/admin/status").json()["devices"][0]
    assert (device["host_cache"], device["host_copies"]) == (1024 * MIB, 300 * MIB)


@pytest.mark.parametrize("host_cache", ["0"])
def test_models_without_host_memory_are_stopped(server: Running, card: Path) -> None:
    with watched(card) as watch:
        for name in "abca":
            assert chat(server, name) == 200
    assert watch.most <= BUDGET * MIB
    found = models(server)
    assert sum(entry["wakes"] for entry in found.values()) == 0
    assert sum(entry["loads"] for entry in found.values()) == 4


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize("host_cache", ["250MiB"])
def test_host_copies_stay_within_their_limit(server: Running) -> None:
    for name in "abcabc":
        assert chat(server, name) == 200
        assert server.http.get("/admin/status").json()["devices"][0]["host_copies"] <= 250 * MIB


def test_prewarmed_process_holds_no_device_memory(server: Running, card: Path) -> None:
    for name in "ab":
        assert chat(server, name) == 200
    with ThreadPoolExecutor(3) as pool:
        busy = [pool.submit(chat, server, name, run_seconds=2.0) for name in "ab"]
        server.until(lambda: [models(server)[name]["in_flight"] for name in "ab"] == [1, 1])
        later = pool.submit(chat, server, "c")
        server.until(lambda: models(server)["c"]["pid"] is not None)
        found = models(server)["c"]
        assert found["state"] == "prewarmed"
        assert found["pid"] not in books.held(card)
        assert [one.result() for one in (*busy, later)] == [200] * 3
    assert models(server)["c"]["pid"] == found["pid"]


def test_memory_reported_late_is_not_given_twice(server: Running, card: Path) -> None:
    for name in "ab":
        assert chat(server, name) == 200
    for name in "ab":
        os.kill(models(server)[name]["pid"], signal.SIGKILL)  # so that it can give nothing back before
    server.until(lambda: {models(server)[name]["state"] for name in "ab"} == {"stopped"})
    with watched(card) as watch:
        assert chat(server, "c") == 200
    assert watch.most <= BUDGET * MIB
    server.until(lambda: server.http.get("/admin/status").json()["devices"][0]["unreturned"] == 0)
    assert server.http.get("/admin/status").json()["alerts"] == []


def test_foreign_memory_shrinks_the_budget(server: Running, card: Path) -> None:
    assert chat(server, "a") == 200
    with books.changing(card):
        books.hold(card, 700 * MIB)  # this process: 1024 - 700 - 100 are left
    server.until(lambda: server.http.get("/admin/status").json()["devices"][0]["foreign"] == 700 * MIB)
    with watched(card) as watch:
        for name in "bca":
            assert chat(server, name) == 200
    assert watch.most - 700 * MIB <= 224 * MIB
