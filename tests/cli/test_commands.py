"""Commands as a user types them: what they print, and how they end."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from cohabit.cli.main import app

CONFIG = """
device: {budget: 300MiB, keep_free: 0}
models:
  small: {engine: fake}
  large: {engine: fake, options: {idle: 250000000}, footprint: {idle: 280MiB}}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and a config in it."""
    monkeypatch.setenv("COHABIT_HOME", str(tmp_path / "home"))
    (tmp_path / "models.yaml").write_text(CONFIG)
    return tmp_path


def run(*arguments: str) -> Result:
    """One command."""
    return CliRunner().invoke(app, list(arguments))


def test_plan_as_a_table(folder: Path) -> None:
    done = run("plan", str(folder / "models.yaml"))
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["model", "engine", "precision", "idle", "inference", "load", "figures", "are"]
    assert "estimated" in lines[2]
    assert "280 MiB" in lines[3]
    assert "declared, peak estimated" in lines[3]
    assert lines[-1] == "verdict: these take turns"


def test_plan_for_programs(folder: Path) -> None:
    data = json.loads(run("plan", str(folder / "models.yaml"), "--json").stdout)
    assert data["device"]["budget"] == 300 << 20
    assert [model["name"] for model in data["models"]] == ["small", "large"]
    assert data["models"][1]["idle"] == {"bytes": 280 << 20, "origin": "declared"}
    assert data["headroom"] == data["device"]["budget"] - data["needed"]
    assert data["verdict"] == "these take turns"


def test_plan_with_another_budget(folder: Path) -> None:
    assert "verdict: all fit at once" in run("plan", str(folder / "models.yaml"), "--budget", "1GiB").stdout
    done = run("plan", str(folder / "models.yaml"), "--budget", "100MiB")
    assert done.exit_code == 3
    assert "large can never fit: it needs 284 MiB, the budget is 100 MiB" in done.stdout


@pytest.mark.parametrize("command", ["plan", "check", "serve", "pull", "measure"])
def test_a_bad_config_is_one_line_and_code_2(folder: Path, command: str) -> None:
    (folder / "models.yaml").write_text("models: {a: {engin: fake}}")
    done = run(command, str(folder / "models.yaml"))
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "models.a.engin: unknown key; did you mean engine?" in done.stderr


def test_check(folder: Path) -> None:
    done = run("check", str(folder / "models.yaml"))
    assert (done.exit_code, done.stdout) == (0, "ok: 2 models, these take turns\n")
    (folder / "models.yaml").write_text(CONFIG.replace("300MiB", "200MiB"))
    done = run("check", str(folder / "models.yaml"))
    assert (done.exit_code, done.stderr) == (3, "large can never fit: it needs 284 MiB, the budget is 200 MiB\n")


@pytest.mark.parametrize("host", ["0.0.0.0", "'::'"])  # noqa: S104 - nothing listens
def test_check_looks_for_keys_where_others_can_come(folder: Path, host: str) -> None:
    (folder / "models.yaml").write_text(f"{CONFIG}server: {{host: {host}}}\n")
    done = run("check", str(folder / "models.yaml"))
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert "make one with `cohabit keys add NAME`, or set server.keys: false" in done.stderr
    assert run("keys", "add", "ann").exit_code == 0
    assert run("check", str(folder / "models.yaml")).exit_code == 0
    (folder / "models.yaml").write_text(f"{CONFIG}server: {{host: {host}, keys: false}}\n")
    done = run("check", str(folder / "models.yaml"))
    assert done.exit_code == 0
    assert done.stderr.startswith("warning: ")


@pytest.mark.parametrize("host", ["localhost", "no.such.host.invalid"])
def test_check_asks_for_no_key_elsewhere(folder: Path, host: str) -> None:
    (folder / "models.yaml").write_text(f"{CONFIG}server: {{host: {host}}}\n")
    assert run("check", str(folder / "models.yaml")).exit_code == 0


def test_check_looks_at_the_certificate(folder: Path) -> None:
    (folder / "models.yaml").write_text(f"{CONFIG}server: {{tls: {{certificate: cert.pem, key: key.pem}}}}\n")
    done = run("check", str(folder / "models.yaml"))
    assert done.exit_code == 2
    line = f"server.tls.certificate: {folder}/cert.pem cannot be read: No such file or directory\n"
    assert done.stderr == line


def test_check_names_a_missing_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cohabit.server.assemble.missing_libraries", lambda engine: ["fakelib"])
    done = run("check", str(folder / "models.yaml"))
    assert done.exit_code == 1
    assert "small: the engine fake needs fakelib" in done.stderr


def test_schema_is_json_schema() -> None:
    assert json.loads(run("schema").stdout)["properties"].keys() == {
        "server",
        "device",
        "scheduling",
        "batches",
        "models",
    }


def test_version_and_help() -> None:
    assert run("--version").stdout.strip()[0].isdigit()
    for command in ("serve", "plan", "pull", "measure", "check", "status", "simulate", "replay", "schema"):
        done = run(command, "--help")
        assert done.exit_code == 0
        assert len(done.stdout) > 100
    assert run("nonsense").exit_code == 2


STATE: dict[str, Any] = {
    "schema": 1,
    "devices": [
        {
            "name": "cpu",
            "reserved": 300 << 20,
            "effective_budget": 500 << 20,
            "foreign": 9 << 20,
            "slots_used": 1,
            "compute_slots": 2,
        }
    ],
    "models": [
        {
            "name": "a",
            "state": "ready",
            "reserved": 300 << 20,
            "in_flight": 1,
            "waiting": 0,
            "loads": 2,
            "failure": "",
            "last_eviction": "for b",
        },
        {
            "name": "b",
            "state": "failed",
            "reserved": 0,
            "in_flight": 0,
            "waiting": 3,
            "loads": 0,
            "failure": "no file",
            "last_eviction": "",
        },
    ],
    "requests": [
        {"state": "running", "model": "a"},
        {
            "state": "waiting",
            "model": "b",
            "waited_seconds": 1.5,
            "waits_for": "a compute slot",
            "position": 1,
            "expected_seconds": 3.0,
        },
    ],
    "swap": {"need": 100 << 20, "why": "for b, waiting 1.5 s"},
    "alerts": [{"code": "over_budget", "severity": "warning", "model": "", "text": "too much is reserved"}],
}


@pytest.fixture
def server() -> Iterator[str]:
    """Answers /admin/status with STATE."""

    class Status(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = self.path == "/admin/status"
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(json.dumps(STATE).encode())

        def log_message(self, *_: object) -> None:
            """Quietly."""

    with HTTPServer(("127.0.0.1", 0), Status) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def test_status_for_people_and_programs(server: str) -> None:
    assert run("status", "--url", server).stdout.splitlines() == [
        "cpu: 300 MiB of 500 MiB reserved, 9 MiB used by others, 1 of 2 slots busy",
        "a  ready        300 MiB  1 running, 0 waiting, 2 loads  (for b)",
        "b  failed         0 MiB  0 running, 3 waiting, 0 loads  (no file)",
        "waiting 1.5 s for a compute slot: b, number 1, about 3.0 s more",
        "2 more wait for b",
        "making 100 MiB of room for b, waiting 1.5 s",
        "warning: too much is reserved",
    ]
    assert json.loads(run("status", "--url", f"{server}/", "--json").stdout) == STATE


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "nonsense", "{server}/elsewhere"])
def test_status_without_a_server_is_one_line_and_code_1(server: str, url: str) -> None:
    done = run("status", "--url", url.format(server=server))
    assert done.exit_code == 1
    assert done.stderr.startswith("no answer from ")
    assert done.stderr.count("\n") == 1


def test_the_command_line_starts_light() -> None:
    heavy = "{'starlette', 'uvicorn', 'prometheus_client', 'rich', 'httpx2', 'pip', 'torch', 'onnxruntime', 'numpy'}"
    code = f"import sys, cohabit.cli.main; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
