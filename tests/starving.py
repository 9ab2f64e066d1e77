"""A model that clients keep busy without end, and one request for another that is not in."""

import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from platformdirs import user_cache_path

from cohabit.config.load import load_config
from cohabit.sources import resolve
from harness import Running, serving

CLIENTS = 6
MAX_WAIT = 5.0
BEFORE = 20.0  # seconds of A alone, to compare with
SECONDS = 30.0
ASKED_AFTER = 5.0
POLL = 0.05


@dataclass(frozen=True, slots=True)
class Turn:
    """What one run showed; seconds."""

    took: float  # from B's request to its answer
    drain: float  # from A's last dispatch to A's leaving
    switch: float  # from then until B was ready
    longest: float  # run of A
    share: float  # A's throughput, of what it is without B

    @property
    def early(self) -> float:
        """By how much B was answered sooner than it had to be."""
        return MAX_WAIT + self.drain + self.switch - self.took


class Busy:
    """Clients in a closed loop on A, and when each of their requests ran."""

    def __init__(self, url: str) -> None:
        """Of the server at ``url``."""
        self.runs: list[tuple[float, float]] = []  # begin and end
        self.failed: list[str] = []
        self._url = url
        self._stop = threading.Event()

    @contextmanager
    def going(self) -> Iterator[None]:
        """While the block runs."""
        threads = [threading.Thread(target=self._loop, args=(number,)) for number in range(CLIENTS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def rate(self, begin: float, end: float) -> float:
        """Answers a second. Six come at once every few seconds, so one that ran partly in this time counts so far."""
        parts = ((min(end, ended) - max(begin, began)) / (ended - began) for began, ended in self.runs)
        return sum(part for part in parts if part > 0) / (end - begin)

    def _loop(self, number: int) -> None:
        with httpx2.Client(base_url=self._url, timeout=60.0) as http:
            count = 0
            while not self._stop.is_set():
                count += 1
                answer = http.post(
                    "/v1/chat/completions", json=asking("a", 48, f"{number}.{count}: tell me of the sea.")
                )
                if answer.status_code != 200:
                    self.failed.append(answer.text)
                    return
                ended = time.monotonic()
                self.runs.append((ended - float(answer.headers["x-cohabit-run-ms"]) / 1000, ended))


def asking(model: str, tokens: int, text: str) -> dict[str, Any]:
    """A chat whose answer has so many tokens, whatever the model would rather say."""
    messages = [{"role": "user", "content": text}]
    return {"model": model, "messages": messages, "max_tokens": tokens, "ignore_eos": True, "temperature": 0}


def twins(folder: Path) -> tuple[str, int]:
    """A config of two models from two equal files, and what one of them needs."""
    llm = load_config("embedded").models["llm"]
    assert llm.source is not None
    found = resolve(llm.source, weights_dir=user_cache_path("cohabit") / "weights", base_dir=folder)
    assert found is not None
    one = llm.model_dump(mode="json", exclude_defaults=True, exclude={"aliases"})
    models = {}
    for name in ("a", "b"):
        shutil.copy(found, folder / f"{name}.gguf")
        models[name] = {**one, "source": f"file:{folder / name}.gguf"}
    (folder / "cache").mkdir()  # of its own: what is made of these files is of use to nobody else
    config = {"device": {"kind": "cpu"}, "scheduling": {"max_wait": f"{MAX_WAIT}s"}, "models": models}
    assert llm.footprint.inference is not None
    return json.dumps(config), llm.footprint.inference


@contextmanager
def of_two_one_fits(folder: Path) -> Iterator[Running]:
    """A server of the models ``a`` and ``b`` whose budget holds one of them; ``a`` is in."""
    config, size = twins(folder)
    with serving(folder, config, "--budget", str(size * 13 // 10)) as server:
        server.http.post("/v1/chat/completions", json=asking("a", 1, "Hello.")).raise_for_status()
        yield server


def once(folder: Path) -> Turn:
    """A alone for a while, then A for SECONDS with one request to B in between."""
    with of_two_one_fits(folder) as server:
        busy = Busy(server.url)
        with busy.going():
            time.sleep(1.0)  # the first answers come all at once
            alone = time.monotonic()
            time.sleep(BEFORE)
            begin = time.monotonic()
            time.sleep(ASKED_AFTER)
            asked = time.monotonic()
            left, ready, answered, drain_began = served(server)
            time.sleep(begin + SECONDS - time.monotonic())
        loads = server.model("b")["loads"]
    assert not busy.failed
    assert loads == 1
    return Turn(
        took=answered - asked,
        drain=left - drain_began,
        switch=ready - left,
        longest=max(ended - began for began, ended in busy.runs),
        share=busy.rate(begin, begin + SECONDS) / busy.rate(alone, begin),
    )


def served(server: Running) -> tuple[float, float, float, float]:
    """Ask B, and look at both until it has answered: when A had left, B was ready, B answered, A began to drain."""
    answers: list[tuple[httpx2.Response, float]] = []

    def ask() -> None:
        with httpx2.Client(base_url=server.url, timeout=60.0) as http:
            answer = http.post("/v1/chat/completions", json=asking("b", 1, "Hello."))
            answers.append((answer, time.monotonic()))

    asking_b = threading.Thread(target=ask)
    asking_b.start()
    seen: list[tuple[float, dict[str, Any], dict[str, Any]]] = []
    while not answers and asking_b.is_alive():
        models = {model["name"]: model for model in server.status()["models"]}
        seen.append((time.monotonic(), models["a"], models["b"]))
        time.sleep(POLL)
    asking_b.join()
    answer, answered = answers[0]
    answer.raise_for_status()
    left = next(at for at, a, _ in seen if a["state"] != "ready")
    draining = next(at for at, a, _ in seen if a["draining"] or a["state"] != "ready")
    ready = next((at for at, _, b in seen if b["state"] == "ready"), answered)
    return left, ready, answered, draining
