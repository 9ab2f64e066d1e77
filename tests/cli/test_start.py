"""What goes wrong outside of the program ends a command with one line."""

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from harness import COMMAND, PATIENCE, cohabit

pytestmark = pytest.mark.process

CONFIG = "models: {mine: {engine: fake}}\n"


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """What was said, which is one line and no traceback."""
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_config_from_a_pipe_is_read() -> None:
    command = f"{COMMAND} check <(echo '{CONFIG}')"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (done.returncode, done.stdout[:3]) == (0, "ok:"), done.stderr


def test_working_folder_that_is_gone(tmp_path: Path) -> None:
    command = f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && {COMMAND} plan"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert one_line(done) == "the working folder is gone; change to one that is there"


def test_output_that_cannot_be_written() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [COMMAND, "schema"], stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=PATIENCE
        )
    assert "No space left on device" in one_line(done)


def test_keys_that_cannot_be_written_name_their_file(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "keys.json.lock").mkdir()  # where a lock is to be written, whoever runs the tests
    done = cohabit("keys", "add", "ann", env=os.environ | {"COHABIT_HOME": str(tmp_path)})
    assert one_line(done) == f"{tmp_path}/state/keys.json: cannot be written: Is a directory"


@pytest.fixture(params=[{"status": "ok"}, ["a list"], {"device": {}, "models": 7}, "<html>"], ids=str)
def another_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a server that is none of ours, and answers everything with 200."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            """Anything."""
            body = request.param if isinstance(request.param, str) else json.dumps(request.param)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("command", [("status",), ("load", "llm")], ids=str)
def test_another_kind_of_server(another_server: str, command: tuple[str, ...]) -> None:
    assert another_server in one_line(cohabit(*command, "--url", another_server))
