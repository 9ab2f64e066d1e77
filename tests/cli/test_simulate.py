"""``cohabit simulate`` as a user types it."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from cohabit.cli.main import app

CONFIG = """
device: {budget: 200MiB, keep_free: 0, compute_slots: 1}
models:
  a: {engine: fake, options: {load_seconds: 2}, footprint: {idle: 100MiB, inference: 101MiB}}
  b: {engine: fake, options: {load_seconds: 3}, footprint: {idle: 150MiB, inference: 151MiB}}
"""
TRACE = """
{"at": 0, "model": "a", "run_seconds": 1}
{"at": 60, "model": "b", "run_seconds": 2}
{"at": 120, "model": "a", "run_seconds": 1}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where both are."""
    monkeypatch.chdir(tmp_path)
    Path("sim.yaml").write_text(CONFIG)
    Path("trace.jsonl").write_text(TRACE)
    return tmp_path


def run(*arguments: str) -> Result:
    """One command."""
    return CliRunner().invoke(app, ["simulate", *arguments])


def replayed(*arguments: str) -> dict[str, Any]:
    done = run("trace.jsonl", "--config", "sim.yaml", "--json", *arguments)
    assert done.exit_code == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.usefixtures("folder")
def test_simulate_reports_on_a_trace() -> None:
    report = replayed()
    assert report["served"] == 3
    assert report["loads"] == 3
    assert report["load_seconds"] == pytest.approx(7.0)
    assert report["evictions"] == {"evicted": 2}
    assert report["rejected"] == {}
    assert report["wait"]["b"] == pytest.approx({"p50": 3.02, "p95": 3.02, "p99": 3.02, "max": 3.02})
    assert report["serving_share"] == pytest.approx(4 / 123.02)
    assert report["policy"] == "gdsf"
    assert replayed("--policy", "lru")["policy"] == "lru"


@pytest.mark.usefixtures("folder")
def test_simulate_compares_two_policies() -> None:
    assert list(replayed("--policy", "gdsf", "--policy", "lru")) == ["gdsf", "lru"]
    done = run("trace.jsonl", "--config", "sim.yaml", "--policy", "lru", "--policy", "gdsf")
    assert done.stdout.splitlines()[0].split() == ["lru", "gdsf"]
    assert "served                  3      3" in done.stdout.splitlines()


@pytest.mark.usefixtures("folder")
def test_simulate_takes_another_budget() -> None:
    assert replayed("--budget", "1GiB")["loads"] == 2
    done = run("trace.jsonl", "--config", "sim.yaml", "--budget", "140MiB")
    assert (done.exit_code, done.stderr) == (3, "b can never fit: it needs 151 MiB, the budget is 140 MiB\n")


@pytest.mark.usefixtures("folder")
def test_simulate_draws_a_plot() -> None:
    assert replayed("--plot", "line.png")["served"] == 3
    with Image.open("line.png") as picture:
        assert picture.format == "PNG"
    done = run("trace.jsonl", "--config", "sim.yaml", "--plot", "nowhere/line.svg")
    assert (done.exit_code, done.stderr) == (1, "nowhere/line.svg: cannot be written: No such file or directory\n")


@pytest.mark.usefixtures("folder")
def test_plot_without_matplotlib_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = run("trace.jsonl", "--config", "sim.yaml", "--plot", "line.png")
    assert (done.exit_code, done.stderr) == (1, "--plot needs matplotlib: pip install 'cohabit[plot]'\n")


@pytest.mark.usefixtures("folder")
def test_stuck_core_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cohabit.core.controller.Controller.handle", lambda *_: [])
    done = run("trace.jsonl", "--config", "sim.yaml")
    assert done.exit_code == 1
    assert done.stderr == "this is a bug of cohabit, please report it: 3 requests wait at 120 s and nothing is due\n"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("", "give a TRACE and a --config, or --generate to make both"),
        ("trace.jsonl", "give a TRACE and a --config"),
        ("trace.jsonl --config none.yaml", "none.yaml: cannot be read"),
        ("none.jsonl --config sim.yaml", "none.jsonl: cannot be read: No such file or directory"),
        ("bad.jsonl --config sim.yaml", "bad.jsonl: line 1: the config has no model 'c'"),
        ("trace.jsonl --config sim.yaml --plot line.pdf", "--plot line.pdf: the name must end in .png or .svg"),
        ("trace.jsonl --config sim.yaml --plot a.png --policy gdsf --policy lru", "--plot draws one policy"),
        ("trace.jsonl --config sim.yaml --budget much", "--budget: a size such as"),
        ("trace.jsonl --generate", "--generate makes a trace and takes none"),
        ("--generate --seconds 5 --rate 5", "--seconds and --rate say the same thing"),
        ("--generate --models 3", "no popularity of 3 models"),
    ],
)
def test_wrong_usage_is_one_line_and_code_2(folder: Path, arguments: str, told: str) -> None:
    (folder / "bad.jsonl").write_text('{"at": 0, "model": "c", "run_seconds": 1}')
    done = run(*arguments.split())
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith(told)
    assert done.stderr.count("\n") == 1


@pytest.mark.usefixtures("folder")
def test_a_generated_trace_goes_to_the_output_or_to_a_file() -> None:
    options = ["--generate", "--requests", "20", "--seed", "3", "--rate", "2"]
    printed = run(*options)
    assert printed.exit_code == 0
    lines = [json.loads(line) for line in printed.stdout.splitlines()]
    assert len(lines) == 20
    assert lines[0].keys() == {"at", "model", "run_seconds"}
    assert lines[-1]["at"] == 10.0
    assert run(*options, "--out", "made.jsonl").stdout == ""
    assert Path("made.jsonl").read_text() == printed.stdout
    done = run(*options, "--out", "nowhere/made.jsonl")
    assert (done.exit_code, done.stderr) == (1, "nowhere/made.jsonl: cannot be written: No such file or directory\n")


@pytest.mark.usefixtures("folder")
def test_generated_trace_and_config_can_be_simulated() -> None:
    made = ["--out", "trace.jsonl", "--config-out", "sim.yaml", "--requests", "600"]
    assert run("--generate", *made).exit_code == 0
    report = replayed()
    assert report["served"] + sum(report["rejected"].values()) == 600
    assert report["loads"] >= len(report["models"])
    assert report["load_seconds"] > 0
    assert replayed() == report, "the same again"


@pytest.mark.usefixtures("folder")
def test_simulate_spans_a_day_of_virtual_time() -> None:
    Path("trace.jsonl").write_text(
        '{"at": 0, "model": "a", "run_seconds": 1}\n{"at": 86400, "model": "a", "run_seconds": 1}'
    )
    assert replayed()["seconds"] == 86_401
