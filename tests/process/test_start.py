"""From the start of the process to the first answer, and what is refused before anything listens."""

import os
import statistics
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from harness import cohabit, cpu_seconds, home, serving

pytestmark = pytest.mark.process


LIBRARIES = "import prometheus_client, pydantic, starlette.applications, structlog, typer, uvicorn, uvloop"


@pytest.mark.model
def test_listens_soon_after_its_libraries_are_there(tmp_path: Path) -> None:
    """In seconds of the processor, held against what importing them takes. benchmarks/start.py has the seconds."""
    ratios = []
    for number in range(3):
        folder = tmp_path / str(number)
        folder.mkdir()
        before = os.times()
        subprocess.run([sys.executable, "-c", LIBRARIES], check=True)
        after = os.times()
        libraries = after.children_user + after.children_system - before.children_user - before.children_system
        with serving(folder) as server:
            ratios.append(cpu_seconds(server) / libraries)
            assert server.http.get("/health/ready").status_code == 200, "ready with nothing loaded"
    assert statistics.median(ratios) < 4, ratios


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    environment = {"COHABIT_HOME": str(home(tmp_path)), "PATH": "/usr/bin:/bin"}
    return cohabit(*arguments, env=environment)


@pytest.mark.parametrize("command", [["check"], ["plan"], ["serve", "--port", "0"]])
def test_a_model_larger_than_the_budget_is_refused_by_name(tmp_path: Path, command: list[str]) -> None:
    config = tmp_path / "large.yaml"
    config.write_text(
        "device: {budget: 500MiB, keep_free: 0}\n"
        "models:\n"
        "  small: {engine: fake}\n"
        "  giant: {engine: fake, options: {idle: 600000000}}\n"
    )
    ended = run(tmp_path, command[0], str(config), *command[1:])
    assert ended.returncode == 3
    told = ended.stdout + ended.stderr
    assert "giant can never fit: it needs 616 MiB, the budget is 500 MiB" in told
    assert "small can never" not in told
    assert "Traceback" not in told


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    config = "device: {budget: 500MiB, keep_free: 0}\nmodels: {a: {engine: fake}}\n"
    with serving(tmp_path, config) as server:
        port = server.url.rpartition(":")[2]
        (tmp_path / "again").mkdir()
        ended = run(tmp_path / "again", "serve", str(tmp_path / "config.yaml"), "--port", port)
    assert ended.returncode == 1
    assert ended.stderr.strip() == f"cannot listen on 127.0.0.1:{port}: Address already in use"


def test_preload_brings_a_model_in_at_start(tmp_path: Path) -> None:
    config = "device: {budget: 500MiB, keep_free: 0}\nmodels: {a: {engine: fake, preload: true}, b: {engine: fake}}\n"
    with serving(tmp_path, config) as server:
        server.until(lambda: server.model("a")["state"] == "ready")
        assert server.model("b")["state"] == "stopped"


def test_what_was_measured_is_used_from_the_next_start_on(tmp_path: Path) -> None:
    config = "device: {budget: 500MiB, keep_free: 0}\nmodels: {a: {engine: fake, options: {idle: 50000000}}}\n"
    with serving(tmp_path, config) as server:
        server.chat(model="a")
        measured = server.model("a")["footprint"]["idle"]
        assert measured["origin"] == "measured"
        assert measured["bytes"] > 50_000_000
    (tmp_path / "cache").unlink()
    ended = run(tmp_path, "plan", str(tmp_path / "config.yaml"))
    assert "measured" in ended.stdout


def test_keep_alive_stops_an_idle_model(tmp_path: Path) -> None:
    config = "device: {budget: 500MiB, keep_free: 0}\nmodels: {a: {engine: fake, keep_alive: 300ms}}\n"
    with serving(tmp_path, config) as server:
        server.chat(model="a")
        server.until(lambda: server.model("a")["state"] == "stopped")
        assert server.chat(model="a").status_code == 200
        assert server.model("a")["loads"] == 2


def test_where_cores_are_short_the_system_shares_them_by_priority_too(tmp_path: Path) -> None:
    config = "device: {budget: 500MiB, keep_free: 0}\nmodels: {a: {engine: fake, priority: 3}, b: {engine: fake}}\n"
    with serving(tmp_path, config) as server:
        for name in "ab":
            body = {"model": name, "input": "x"}
            assert server.http.post("/v1/embeddings", json=body).status_code == 200
        models = server.http.get("/admin/status").json()["models"]
        nice = {entry["name"]: psutil.Process(entry["pid"]).nice() for entry in models}
    assert nice == {"a": 0, "b": 5}, "five levels of the system's scheduler are three to one"
