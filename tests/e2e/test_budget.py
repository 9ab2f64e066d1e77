"""Real models under a budget in which they do not all fit: by turns, within the budget, nothing fails."""

import base64
import itertools
import threading
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from harness import Running, Watch, memory_watch, preset, serving, wait_until
from samples import saved, tone, written

MIB = 1 << 20
PICTURE = base64.b64encode(saved(written("INVOICE 2026-00417", "Total due: 1,249.50 EUR"))).decode()
TEXT = "The sea is wide and blue and full of salt. "

pytestmark = [pytest.mark.process, pytest.mark.model]

ASK: dict[str, Callable[[Running], httpx2.Response]] = {
    "llm": lambda server: server.chat("Tell me of the sea.", max_tokens=24),
    "embeddings": lambda server: server.embed(*[TEXT * 5] * 8),
    "vision": lambda server: server.http.post(
        "/inference", json={"type": "describe_image", "data": {"image": PICTURE}}
    ),
    "tts": lambda server: server.http.post("/v1/audio/speech", json={"model": "tts", "input": TEXT * 3}),
    "stt": lambda server: server.http.post(
        "/v1/audio/transcriptions", data={"model": "stt"}, files={"file": ("a.wav", tone(3))}
    ),
}


def load(server: Running, loads: int, *names: str) -> list[str]:
    """Two clients on each model in a closed loop, until each has answered three times and there were so many loads.

    What failed.
    """
    enough = threading.Event()
    answered = dict.fromkeys(names, 0)
    failed: list[str] = []

    def client(name: str) -> None:
        while not enough.is_set():
            answer = ASK[name](server)
            if answer.status_code == 200:
                answered[name] += 1
            else:
                failed.append(answer.text)

    clients = [threading.Thread(target=client, args=(name,)) for name in names for _ in range(2)]
    for one in clients:
        one.start()
    try:
        wait_until(
            lambda: failed or (min(answered.values()) >= 3 and sum(loaded(server).values()) >= loads),
            200.0,
            every=0.5,
        )
    finally:
        enough.set()
        for one in clients:
            one.join()
    return failed


def loaded(server: Running) -> dict[str, int]:
    """How often each model was."""
    return {model["name"]: model["loads"] for model in server.status()["models"]}


def check(memory: Watch, budget: int) -> None:
    """All workers together were within the budget; 2 % tolerance, never in two samples running."""
    most = budget * MIB * 1.02
    over = [index for index, sample in enumerate(memory.samples) if sample > most]
    assert len(memory.samples) > 20
    assert not any(second - first == 1 for first, second in itertools.pairwise(over)), (
        f"over the budget twice running: {[memory.samples[index] // MIB for index in over]}"
    )


@pytest.mark.parametrize(
    ("names", "budget"),
    [(("llm", "embeddings"), 430), (("llm", "vision", "embeddings", "tts", "stt"), 700)],
)
def test_models_take_turns_within_the_budget(tmp_path: Path, names: tuple[str, ...], budget: int) -> None:
    with (
        serving(tmp_path, preset(*names), "--budget", f"{budget}MiB") as server,
        memory_watch(server.pid) as memory,
    ):
        failed = load(server, len(names) + 2, *names)
    assert not failed
    log = server.log.read_text()
    assert "killed" not in log
    assert "ended unasked" not in log
    assert '"cause":"evicted"' in log
    check(memory, budget)


def test_models_that_fit_together_stay_loaded(tmp_path: Path) -> None:
    with serving(tmp_path, preset("llm", "embeddings"), "--budget", "900MiB") as server:
        failed = load(server, 2, "llm", "embeddings")
        loads = loaded(server)
    assert not failed
    assert loads == {"llm": 1, "embeddings": 1}


def test_batch_over_all_models_loads_each_once(tmp_path: Path) -> None:
    speech = base64.b64encode(tone(3)).decode()
    kinds: list[dict[str, object]] = [
        {"type": "chat", "data": {"prompt": "Tell me of the sea.", "max_tokens": 48}},
        {"type": "describe_image", "data": {"image": PICTURE}},
        {"type": "embed", "data": {"texts": [TEXT] * 8}},
        {"type": "speak", "data": {"text": TEXT * 10}},
        {"type": "transcribe", "data": {"audio": speech}},
    ]
    with serving(tmp_path, None, "--budget", "500MiB") as server:
        answer = server.http.post("/batch", json=kinds * 6, timeout=200)
        loads = loaded(server)
    assert all("result" in one for one in answer.json()["results"]), answer.text
    assert loads == dict.fromkeys(("llm", "vision", "embeddings", "tts", "stt"), 1)
