"""Workers and servers die, clients hang up, readers are slow: on real processes, with the fake engine."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from harness import PATIENCE, Running, chat_over_socket, serving, wait_until

pytestmark = pytest.mark.process

CONFIG = """
server: {drain: 5s}
device: {budget: 1GiB, keep_free: 0, compute_slots: 4}
models:
  a:
    engine: fake
    concurrency: 4
    options: {tokens: 400, token_seconds: 0.01, idle: 20000000}
  b:
    engine: fake
    options: {run_seconds: 0.5}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    """Two fake models."""
    with serving(tmp_path, CONFIG) as running:
        yield running


def stream_of(server: Running, model: str = "a", **fields: object) -> Iterator[dict[str, object]]:
    """The events of a streamed chat."""
    body = {"model": model, "messages": [{"role": "user", "content": "x"}], "stream": True, **fields}
    with server.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200
        for line in answer.iter_lines():
            if line.startswith("data: ") and line != "data: [DONE]":
                yield json.loads(line[6:])


class Background(threading.Thread):
    """Something that runs beside the test; ``result`` raises what it raised."""

    def __init__(self, work: object, *arguments: object, **fields: object) -> None:
        super().__init__(daemon=True)
        self._work, self._arguments, self._fields = work, arguments, fields
        self._value: object = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._value = self._work(*self._arguments, **self._fields)  # type: ignore[operator]  # any callable
        except BaseException as error:  # handed to whoever asks for the result
            self._error = error

    def result(self) -> object:
        self.join(timeout=30)
        assert not self.is_alive()
        if self._error is not None:
            raise self._error
        return self._value


def test_a_killed_worker_retries_what_was_not_sent_and_ends_what_was(server: Running) -> None:
    begun = stream_of(server)
    next(begun)
    plain = Background(server.chat, model="a", max_tokens=100)
    other = Background(server.chat, model="b")
    server.until(lambda: server.model("a")["in_flight"] == 2 and server.model("b")["in_flight"] == 1)
    killed = server.model("a")["pid"]
    os.killpg(killed, signal.SIGKILL)
    rest = list(begun)
    assert rest[-1]["error"]["code"] == "worker_died"  # type: ignore[index]  # an error event
    answer = plain.result()
    assert isinstance(answer, httpx2.Response)
    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 100
    beside = other.result()
    assert isinstance(beside, httpx2.Response)
    assert beside.status_code == 200
    assert server.model("a")["pid"] != killed
    assert server.chat(model="a", max_tokens=2).status_code == 200
    assert server.metric("cohabit_deaths_total", model="a") == 1
    assert server.metric("cohabit_deaths_total", model="b") == 0


def test_a_poisonous_request_fails_alone(server: Running) -> None:
    good = [Background(server.chat, model="a", max_tokens=50) for _ in range(2)]
    server.until(lambda: server.model("a")["in_flight"] == 2)
    bad = server.chat(model="a", fake={"fail": "die"})
    assert bad.status_code == 503
    assert bad.json()["error"]["code"] == "worker_died"
    assert int(bad.headers["retry-after"]) >= 1
    for one in good:
        answer = one.result()
        assert isinstance(answer, httpx2.Response)
        assert answer.status_code == 200
    assert server.chat(model="a", max_tokens=2).status_code == 200


def test_requests_that_kill_their_worker_do_not_put_the_model_out_of_service(server: Running) -> None:
    for _ in range(3):
        bad = server.chat(model="a", fake={"fail": "die"})
        assert (bad.status_code, bad.json()["error"]["code"]) == (503, "worker_died")
        assert bad.headers["x-should-retry"] == "false"
    assert server.chat(model="a", max_tokens=2).status_code == 200


def test_errors_of_one_item_leave_the_others_alone(server: Running) -> None:
    beside = Background(server.chat, model="a", max_tokens=40)
    refused = server.chat(model="a", fake={"fail": "item"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "fake_refusal")
    failed = server.chat(model="a", fake={"fail": "run"})
    assert (failed.status_code, failed.json()["error"]["code"]) == (502, "engine_error")
    memory = server.chat(model="a", fake={"fail": "oom"})
    assert (memory.status_code, memory.json()["error"]["code"]) == (503, "out_of_memory")
    answer = beside.result()
    assert isinstance(answer, httpx2.Response)
    assert answer.status_code == 200
    assert server.model("a")["loads"] == 1


def test_a_killed_server_leaves_no_worker(server: Running) -> None:
    server.chat(model="a", max_tokens=1)
    server.chat(model="b")
    busy = Background(server.chat, model="a")
    server.until(lambda: server.model("a")["in_flight"] == 1)
    workers = server.workers()
    assert len(workers) == 2
    os.kill(server.pid, signal.SIGKILL)
    server.process.wait()
    wait_until(lambda: not any(alive(pid) for pid in workers))
    with pytest.raises(httpx2.HTTPError):
        busy.result()


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_ctrl_c_drains_and_leaves_nothing(server: Running) -> None:
    running = Background(server.chat, model="a", max_tokens=100)
    server.until(lambda: server.model("a")["in_flight"] == 1)
    waiting = [Background(server.chat, model="b") for _ in range(2)]
    server.until(lambda: server.model("b")["waiting"] + server.model("b")["in_flight"] == 2)
    workers = server.workers()
    server.process.send_signal(signal.SIGINT)
    for one in (running, *waiting):  # what was accepted is answered
        answer = one.result()
        assert isinstance(answer, httpx2.Response)
        assert answer.status_code == 200
    assert server.process.wait(timeout=PATIENCE) == 0
    assert not any(alive(pid) for pid in workers)


def test_a_drain_ends(tmp_path: Path) -> None:
    with serving(tmp_path, CONFIG.replace("drain: 5s", "drain: 1s")) as server:
        endless = Background(server.chat, model="b", fake={"run_seconds": 60})
        server.until(lambda: server.model("b")["in_flight"] == 1)
        workers = server.workers()
        server.process.send_signal(signal.SIGINT)
        answer = endless.result()
        assert isinstance(answer, httpx2.Response)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "shutting_down")
        assert server.process.wait(timeout=PATIENCE) == 0
        assert not any(alive(pid) for pid in workers)


def raw_chat(
    server: Running, *, stream: bool, model: str = "a", window: int | None = None, **fields: object
) -> socket.socket:
    """A chat over a bare socket, so that the test decides when to hang up or read."""
    body = {"model": model, "messages": [{"role": "user", "content": "x"}], "stream": stream, **fields}
    return chat_over_socket(server, body, window)


@pytest.mark.parametrize("stream", [True, False])
def test_hanging_up_stops_the_generation(server: Running, stream: bool) -> None:
    connection = raw_chat(server, stream=stream)
    server.until(lambda: server.model("a")["in_flight"] == 1)
    if stream:
        while b"content" not in connection.recv(65536):
            pass
    connection.close()
    server.until(lambda: server.model("a")["in_flight"] == 0)
    labels = {"model": "a", "task": "chat", "outcome": "cancelled"}
    assert server.metric("cohabit_finished_total", **labels) == 1
    assert server.metric("cohabit_overrun_tokens_total", model="a") <= 3


@pytest.mark.parametrize("stream", [True, False])
def test_a_waiting_client_that_hangs_up_leaves_the_queue_at_once(server: Running, stream: bool) -> None:
    first = raw_chat(server, stream=False, model="b", fake={"run_seconds": 600})
    server.until(lambda: server.model("b")["in_flight"] == 1)
    connection = raw_chat(server, stream=stream, model="b")
    server.until(lambda: server.model("b")["waiting"] == 1)
    connection.close()
    server.until(lambda: server.model("b")["waiting"] == 0)
    assert server.model("b")["in_flight"] == 1, "the one before it still runs"
    first.close()


def test_a_slow_reader_holds_up_nobody(server: Running) -> None:
    # 4,000 events are a megabyte: far more than a receive window of 4 KiB and the stream's credits take.
    server.chat(model="a", max_tokens=1)
    slow = raw_chat(server, window=4096, stream=True, fake={"tokens": 4000, "token_seconds": 0.0})
    server.until(lambda: server.metric("cohabit_tokens_total", model="a") >= 4000)
    # the model itself is free: what was not read waits as text
    server.until(lambda: server.model("a")["in_flight"] == 0)
    for _ in range(3):
        assert server.chat(model="a", max_tokens=5).status_code == 200
    slow.settimeout(PATIENCE)
    assert b"data: " in slow.recv(65536), "it is still being served"
    slow.close()


def test_a_slow_readers_answer_survives_the_models_eviction(tmp_path: Path) -> None:
    config = CONFIG.replace("budget: 1GiB", "budget: 110MiB").replace("run_seconds: 0.5", "idle: 60000000")
    with serving(tmp_path, config) as server:
        slow = raw_chat(server, stream=True, fake={"tokens": 4000, "token_seconds": 0.0})
        server.until(lambda: server.metric("cohabit_tokens_total", model="a") >= 4000)
        assert server.chat(model="b").status_code == 200
        assert server.model("a")["state"] == "stopped", "only one fits"
        received = b""
        slow.settimeout(20)
        while b"data: [DONE]" not in received:
            piece = slow.recv(65536)
            assert piece, "the stream broke off"
            received += piece
        slow.close()
        assert received.count(b'"delta"') == 4001


def test_a_model_that_never_starts_fails_and_says_why(tmp_path: Path) -> None:
    config = """
device: {budget: 1GiB, keep_free: 0}
models:
  broken: {engine: fake, options: {fail: load}}
  fine: {engine: fake}
"""
    with serving(tmp_path, config) as server:
        answer = server.chat(model="broken")
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "model_failed"
        assert "told to fail at load" in server.model("broken")["failure"], "the owner is told why, clients are not"
        again = server.chat(model="broken")
        assert (again.status_code, int(again.headers["retry-after"]) > 1) == (503, True)
        assert server.chat(model="fine").status_code == 200
        assert server.http.get("/health/ready").status_code == 200
