"""How a server stops, and what it writes to that cannot be written to."""

import json
import os
import pty
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from harness import COMMAND, PATIENCE, home, serving, wait_until

pytestmark = pytest.mark.process

CONFIG = """
server: {drain: 30s}
device: {budget: 1GiB, keep_free: 0, compute_slots: 2}
models:
  a: {engine: fake, concurrency: 2, options: {tokens: 2}}
"""


@pytest.mark.parametrize("again", [signal.SIGINT, signal.SIGTERM])
def test_second_signal_ends_it_at_once_with_an_error_in_our_shape(again: signal.Signals, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as clients, serving(tmp_path, CONFIG) as server:
        assert server.chat(model="a").status_code == 200
        asked = [clients.submit(server.chat, model="a", fake={"run_seconds": 60}) for _ in range(3)]
        server.until(lambda: [server.model("a")[kind] for kind in ("in_flight", "waiting")] == [2, 1])
        workers = [psutil.Process(pid) for pid in server.workers()]
        server.process.send_signal(signal.SIGINT)
        wait_until(lambda: "press Ctrl-C again" in server.log.read_text())
        assert not any(one.done() for one in asked), "it drains"
        server.process.send_signal(again)
        for one in asked:
            answer = one.result(PATIENCE)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
        assert server.process.wait(PATIENCE) == 130
        psutil.wait_procs(workers, timeout=PATIENCE)
        assert not any(worker.is_running() for worker in workers)
        assert "Traceback" not in server.log.read_text()


def test_request_whose_body_is_still_on_its_way_gets_our_error_too(tmp_path: Path) -> None:
    with serving(tmp_path, CONFIG) as server:
        url = httpx2.URL(server.url)
        with socket.create_connection((url.host, url.port)) as connection:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{")
            time.sleep(0.3)  # in which it arrives
            server.process.send_signal(signal.SIGINT)
            wait_until(lambda: "shutting down" in server.log.read_text())
            server.process.send_signal(signal.SIGINT)
            connection.settimeout(PATIENCE)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503 ")
        assert json.loads(body)["error"]["code"] == "shutting_down"
        assert server.process.wait(PATIENCE) in {0, 130}, "as fast as the second signal came"


def test_sighup_drains(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as clients, serving(tmp_path, CONFIG) as server:
        asked = clients.submit(server.chat, model="a", fake={"run_seconds": 2})
        server.until(lambda: server.model("a")["in_flight"] == 1)
        server.process.send_signal(signal.SIGHUP)
        assert asked.result(PATIENCE).status_code == 200
        assert server.process.wait(PATIENCE) == 0


@pytest.mark.parametrize("seconds", [0.1, 0.3, 0.5, 0.9])
def test_ctrl_c_while_it_starts_leaves_no_traceback(seconds: float, tmp_path: Path) -> None:
    with started(tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as (process, _):
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=PATIENCE)
        assert process.returncode in {0, 1, 130, -signal.SIGINT}
        assert b"Traceback" not in said or b"cohabit/" not in said, "but for Python's own start, none"


@contextmanager
def started(folder: Path, **how: Any) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server whose standard output nobody need read, and its URL."""
    (folder / "config.yaml").write_text(CONFIG)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command: list[str] = [str(COMMAND), "serve", str(folder / "config.yaml"), "--port", str(port)]
    environment = os.environ | {"COHABIT_HOME": str(home(folder))}
    process: subprocess.Popen[bytes] = subprocess.Popen(command, env=environment, start_new_session=True, **how)
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def chats(url: str) -> None:
    """It answers, once it listens."""
    body = {"model": "a", "messages": [{"role": "user", "content": "x"}]}

    def answered() -> bool:
        try:
            return httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=PATIENCE).status_code == 200
        except httpx2.ConnectError:
            return False

    wait_until(answered)


def close(*numbers: int) -> Callable[[], None]:
    """For the child, before it becomes the server."""

    def closes() -> None:
        for number in numbers:
            os.close(number)

    return closes


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)], ids=str)
def test_server_without_standard_files_serves_and_stops(closed: tuple[int, ...], tmp_path: Path) -> None:
    quiet = subprocess.DEVNULL
    with started(tmp_path, stdout=quiet, stderr=quiet, preexec_fn=close(*closed)) as (process, url):
        chats(url)
        for number in closed:
            assert Path(f"/proc/{process.pid}/fd/{number}").readlink() == Path(os.devnull), (
                "no other file takes its place"
            )
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_server_whose_standard_files_are_full_serves_and_stops(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full, started(tmp_path, stdout=full, stderr=full) as (process, url):
        chats(url)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_server_whose_terminal_is_gone_serves_and_stops(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    with started(tmp_path, stdout=theirs, stderr=theirs) as (process, url):
        os.close(theirs)
        os.close(ours)
        chats(url)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_pipe_that_nobody_reads_stops_nothing_and_what_was_dropped_is_told(tmp_path: Path) -> None:
    reads, writes = os.pipe()
    with started(tmp_path, stdout=subprocess.DEVNULL, stderr=writes) as (process, url):
        os.close(writes)
        with httpx2.Client(base_url=url, timeout=PATIENCE) as http:
            chats(url)
            # Each line is some 200 bytes, a pipe takes 64 KiB, and the queue of the log 4 MiB.
            for _ in range(400):
                assert http.get("/v1/models/nobody").status_code == 404
            assert http.get("/health/live").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, "nor does it wait for a reader at the end"
    os.close(reads)
