"""Real servers for tests: started from the command line on a free port, looked at from outside, stopped by pid."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx2
import psutil
from platformdirs import user_cache_path

from cohabit.config.load import load_config
from cohabit.devices.cpu import group_members, pss
from cohabit.sources import resolve

COMMAND = Path(sys.executable).parent / "cohabit"
PATIENCE = 60.0
"""Seconds that a test waits for what must come: many times what it takes, since a machine may be busy. A test that
promises how soon something comes says what it comes before."""


def home(folder: Path) -> Path:
    """An empty state folder beside the shared cache of fetched weights, unless it has a cache of its own."""
    shared = user_cache_path("cohabit")
    shared.mkdir(parents=True, exist_ok=True)
    if not (folder / "cache").exists():  # a server that is started again has it
        (folder / "cache").symlink_to(shared, target_is_directory=True)
    return folder


def photos() -> Path:
    """Those that scikit-image ships, out of its wheel."""
    weights = user_cache_path("cohabit") / "weights"
    found = resolve("pypi:scikit-image==0.26.0/skimage/data", weights_dir=weights, base_dir=Path.cwd())
    assert found is not None
    return found


def preset(*names: str) -> str:
    """Some models of the preset, as YAML."""
    config = load_config("embedded")
    models = {name: config.models[name].model_dump(mode="json", exclude_defaults=True) for name in names}
    return json.dumps({"device": {"kind": "cpu"}, "models": models})  # which is YAML too


def cohabit(
    *arguments: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None, seconds: float = PATIENCE
) -> subprocess.CompletedProcess[str]:
    """One command, to its end; by default in this process's environment."""
    return subprocess.run(
        [COMMAND, *arguments], env=env, cwd=cwd, capture_output=True, text=True, check=False, timeout=seconds
    )


class Running:
    """A server process and what can be seen of it."""

    def __init__(self, process: subprocess.Popen[str], url: str, log: Path) -> None:
        """Of a server at ``url``, whose standard error goes to ``log``."""
        self.process = process
        self.url = url
        self.log = log
        self.http = httpx2.Client(base_url=url, timeout=PATIENCE)

    @property
    def pid(self) -> int:
        """Of the control plane."""
        return self.process.pid

    def chat(self, text: str = "Say hello.", model: str = "llm", **fields: Any) -> httpx2.Response:
        """One chat request."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
        return self.http.post("/v1/chat/completions", json=body)

    def embed(self, *texts: str, model: str = "embeddings", **fields: Any) -> httpx2.Response:
        """One embeddings request."""
        return self.http.post("/v1/embeddings", json={"model": model, "input": list(texts), **fields})

    def status(self) -> dict[str, Any]:
        """The core's snapshot."""
        answer = self.http.get("/admin/status")
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def model(self, name: str) -> dict[str, Any]:
        """One model of the snapshot."""
        found: dict[str, Any] = next(model for model in self.status()["models"] if model["name"] == name)
        return found

    def metric(self, name: str, **labels: str) -> float:
        """The value of one metric; 0 where it has not been touched."""
        for line in self.http.get("/metrics").text.splitlines():
            found = re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line)
            if found is None or found[1] != name:
                continue
            if dict(re.findall(r'(\w+)="([^"]*)"', found[2] or "")) == labels:
                return float(found[3])
        return 0.0

    def workers(self) -> list[int]:
        """Pids of its worker processes."""
        return [child.pid for child in psutil.Process(self.pid).children()]

    def until(self, what: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Poll until something is so."""
        wait_until(what, seconds)

    def stop(self) -> int:
        """Ctrl-C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=PATIENCE)


def wait_until(what: Callable[[], object], seconds: float = PATIENCE, every: float = 0.02) -> None:
    """Poll until something is so; AssertionError if it is not within ``seconds``."""
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(every)


@contextmanager
def serving(
    folder: Path, config: str | None = None, *arguments: str, within: Sequence[str] = ()
) -> Iterator[Running]:
    """``cohabit serve`` with this YAML (or the default preset) and an empty state folder, until the block ends.

    ``within`` is a command that runs the server in its own place.
    """
    files = []
    if config is not None:
        path = folder / "config.yaml"
        path.write_text(config)
        files = [str(path)]
    environment = os.environ | {"COHABIT_HOME": str(home(folder))}
    log = folder / "serve.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*within, str(COMMAND), "serve", *files, "--port", "0", *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            start_new_session=True,
        )
    assert process.stdout is not None
    running = None
    try:
        killer = threading.Timer(PATIENCE, process.kill)
        killer.start()
        for line in process.stdout:
            found = re.fullmatch(r"listening on (\S+)\n", line)
            if found:
                running = Running(process, found[1], log)
                break
        killer.cancel()
        assert running is not None, f"it did not listen: {log.read_text()}"
        yield running
    finally:
        workers = [child.pid for child in psutil.Process(process.pid).children()] if process.poll() is None else []
        if running is not None:
            running.http.close()
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        process.stdout.close()
        for pid in workers:
            if psutil.pid_exists(pid):  # a failed test; the next must not pay for it
                os.killpg(pid, signal.SIGKILL)


def chat_over_socket(server: Running, body: dict[str, Any], window: int | None = None) -> socket.socket:
    """A chat over a bare socket, so that the test decides when to hang up or read; ``window`` in bytes."""
    url = httpx2.URL(server.url)
    connection = socket.socket()
    if window is not None:  # before the connection is made, or it is not heeded
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    connection.connect((url.host, url.port))
    text = json.dumps(body)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(text)}\r\n\r\n"
    connection.sendall((head + text).encode())
    return connection


def cpu_seconds(server: Running) -> float:
    """Of the processor, that the control plane has used: what it did, however busy the machine is."""
    used = psutil.Process(server.pid).cpu_times()
    return float(used.user + used.system)


class Watch:
    """Samples something, from outside, while the block runs."""

    def __init__(self, sample: Callable[[], int], *, every: float) -> None:
        """``every`` so many seconds."""
        self.samples: list[int] = []
        self.moments: list[float] = []  # when each was taken, by the monotonic clock
        self._sample = sample
        self._every = every
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def most(self) -> int:
        """Ever seen."""
        return max(self.samples, default=0)

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self.samples.append(self._sample())
            self.moments.append(time.monotonic())


def is_worker(process: psutil.Process) -> bool:
    """Whether it runs a model; inspectors do not. A process that is just ending is none."""
    try:
        return "cohabit.worker" in process.cmdline()
    except psutil.NoSuchProcess:
        return False


def memory_watch(server: int) -> Watch:
    """Of the proportional memory of all worker process groups; ``server`` is the control plane's pid."""
    process = psutil.Process(server)

    def sample() -> int:
        groups = group_members()
        leaders = [child.pid for child in process.children() if is_worker(child)]
        return sum(pss(pid) for leader in leaders for pid in groups.get(leader, ()))

    return Watch(sample, every=0.05)
