"""A server on a card and what is seen of it, by its books and through NVML from outside. Not a benchmark itself."""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pynvml

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from _load import percentile
from _machine import keep
from harness import Watch, wait_until
from start import listening

COMMAND = [sys.executable, "-c", "from cohabit.cli.main import app; app()"]
QUESTIONS = ["Which city is the capital of France?", "What is water made of?", "Say hello."]


def handle() -> Any:
    """The card."""
    return pynvml.nvmlDeviceGetHandleByIndex(0)


def card() -> dict[str, Any]:
    """Which it is. Raises what NVML raises without one."""
    pynvml.nvmlInit()
    name = pynvml.nvmlDeviceGetName(handle())
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle())
    return {
        "card": name if isinstance(name, str) else name.decode(),
        "driver": str(pynvml.nvmlSystemGetDriverVersion()),
        "total_mib": memory.total >> 20,
        "taken_before_mib": memory.used >> 20,
    }


def used() -> dict[int, int]:
    """Bytes by pid."""
    return {each.pid: each.usedGpuMemory or 0 for each in pynvml.nvmlDeviceGetComputeRunningProcesses(handle())}


def watched(server: int) -> Watch:
    """Of what NVML says that a server's workers hold together; ``server`` is a pid."""
    process = psutil.Process(server)

    def sample() -> int:
        pids = {child.pid for child in process.children(recursive=True)}
        return sum(size for pid, size in used().items() if pid in pids)

    return Watch(sample, every=0.02)


@contextmanager
def serving(config: dict[str, Any], folder: Path, patience: float = 25.0) -> Iterator[tuple[httpx2.Client, int]]:
    """A server, its client and its pid; its log is in the folder. ``patience``: seconds a client waits."""
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    print(subprocess.run([*COMMAND, "plan", str(path)], capture_output=True, text=True, check=False).stdout)
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(
            [*COMMAND, "serve", str(path), "--port", "0"], stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            with httpx2.Client(base_url=listening(process), timeout=patience) as http:
                yield http, process.pid
        except BaseException:
            log.seek(0)
            print(log.read()[-6000:], file=sys.stderr)
            raise
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


def chat(http: httpx2.Client, model: str, **fields: Any) -> httpx2.Response:
    """One request; ``fields`` are added to it."""
    body = {"model": model, "messages": [{"role": "user", "content": "x"}], **fields}
    return http.post("/v1/chat/completions", json=body)


def say(http: httpx2.Client, name: str, text: str, tokens: int) -> str:
    """One greedy answer."""
    messages = [{"role": "user", "content": text}]
    answer = chat(http, name, messages=messages, max_tokens=tokens, temperature=0)
    assert answer.status_code == 200, answer.text
    content: str = answer.json()["choices"][0]["message"]["content"]
    return content


def hear(http: httpx2.Client, sound: bytes) -> str:
    """What is said there."""
    answer = http.post("/v1/audio/transcriptions", data={"model": "stt"}, files={"file": sound})
    assert answer.status_code == 200, answer.text
    text: str = answer.json()["text"]
    return text


def streamed(http: httpx2.Client, name: str, tokens: int) -> list[float]:
    """When each token of an answer came, after when it was asked for."""
    body = {
        "model": name,
        "messages": [{"role": "user", "content": random.choice(QUESTIONS)}],
        "max_tokens": tokens,
        "stream": True,
    }
    came = [time.monotonic()]
    with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        assert answer.status_code == 200, answer.read()
        came += [time.monotonic() for line in answer.iter_lines() if line.startswith("data: {")]
    return came


def status(http: httpx2.Client) -> dict[str, Any]:
    """The core's snapshot."""
    found: dict[str, Any] = http.get("/admin/status").json()
    return found


def model(http: httpx2.Client, name: str) -> dict[str, Any]:
    """One model of it."""
    found: dict[str, Any] = next(each for each in status(http)["models"] if each["name"] == name)
    return found


def learned(http: httpx2.Client) -> dict[str, Any]:
    """What is known of every model by now."""
    return {
        each["name"]: {
            "footprint_mib": {what: need and need["bytes"] >> 20 for what, need in each["footprint"].items()},
            "origins": {what: need and need["origin"] for what, need in each["footprint"].items()},
            "load_seconds": each["load_seconds"],
            "wake_seconds": each["wake_seconds"],
        }
        for each in status(http)["models"]
    }


def together(*clients: Callable[[], object]) -> None:
    """All at once in threads, to their ends. Raises what the first of them in this order raised."""
    with ThreadPoolExecutor(len(clients)) as threads:
        under_way = [threads.submit(client) for client in clients]
    for each in under_way:
        each.result()


def waits(served: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    """Of each model: how many answers, and how many seconds they took."""
    return {
        name: {
            "answers": len(took),
            "p50_seconds": round(statistics.median(took), 3),
            "p95_seconds": round(percentile(took, 95), 3),
            "worst_seconds": round(max(took), 3),
        }
        for name, took in served.items()
    }


class Steps:
    """Figures, step by step. One that fails does not hide the others: a card is lent for minutes."""

    def __init__(self, figures: dict[str, Any]) -> None:
        """Go on with what is known already."""
        self.figures = figures
        self.failed = False

    def do(self, name: str, step: Callable[[], Any]) -> None:
        """What it returns is kept under its name; or why it failed."""
        try:
            self.figures[name] = step()
        except (AssertionError, KeyError, StopIteration, httpx2.HTTPError) as error:
            self.figures[name] = {"failed": f"{type(error).__name__}: {error}"[:2000]}
            self.failed = True
        print(name, json.dumps(self.figures[name]), flush=True)

    def end(self, name: str, folder: Path, *, log: bool = False) -> None:
        """Keep the result; where a step failed, or ``log``, with the end of the server's log. Exits with 1 then."""
        if self.failed or log:
            print((folder / "log").read_text()[-6000:], flush=True)
        keep(name, self.figures, Path(os.environ["OUT"]) / f"{name}.json" if "OUT" in os.environ else None)
        if self.failed:
            raise SystemExit(1)


def seconds_until(what: Callable[[], object], within: float = 30.0) -> float:
    """How long it took until something was so. Raises AssertionError."""
    began = time.monotonic()
    wait_until(what, within, every=0.005)
    return round(time.monotonic() - began, 3)
