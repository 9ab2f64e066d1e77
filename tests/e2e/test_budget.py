"""Two real models under a budget in which only one fits: by turns, within the budget, nothing fails."""

import itertools
import threading
import time
from pathlib import Path

import pytest

from harness import MemoryWatch, Running, serving

MIB = 1 << 20
BUDGET = 430

pytestmark = [pytest.mark.process, pytest.mark.model, pytest.mark.timeout(180)]


def load(server: Running, seconds: float) -> tuple[dict[str, int], list[str]]:
    """Two clients on each model in a closed loop; how many each had answered, and what failed."""
    end = time.monotonic() + seconds
    answered = {"llm": 0, "embeddings": 0}
    failed: list[str] = []

    def client(name: str) -> None:
        while time.monotonic() < end:
            if name == "llm":
                answer = server.chat("Tell me of the sea.", max_tokens=24)
            else:
                answer = server.embed(*["The sea is wide and blue and full of salt. " * 5] * 8)
            if answer.status_code == 200:
                answered[name] += 1
            else:
                failed.append(answer.text)

    clients = [threading.Thread(target=client, args=(name,)) for name in answered for _ in range(2)]
    for one in clients:
        one.start()
    for one in clients:
        one.join()
    return answered, failed


def test_two_models_take_turns_within_the_budget(tmp_path: Path) -> None:
    with (
        serving(tmp_path, None, "--budget", f"{BUDGET}MiB", measured=True) as server,
        MemoryWatch(server.pid) as memory,
    ):
        answered, failed = load(server, seconds=25)
        state = server.status()
    assert not failed
    assert min(answered.values()) >= 4, answered
    loads = {model["name"]: model["loads"] for model in state["models"]}
    assert min(loads.values()) >= 2, f"they took turns: {loads}"
    assert all("killed" not in line for line in server.log.read_text().splitlines())
    assert '"cause": "evicted"' in server.log.read_text()
    most = BUDGET * MIB * 1.02
    over = [index for index, sample in enumerate(memory.samples) if sample > most]
    assert len(memory.samples) > 200
    assert not any(second - first == 1 for first, second in itertools.pairwise(over)), (
        f"over the budget twice running: {[memory.samples[index] // MIB for index in over]}"
    )


def test_both_stay_when_both_fit(tmp_path: Path) -> None:
    with serving(tmp_path, None, "--budget", "900MiB") as server:
        answered, failed = load(server, seconds=6)
        state = server.status()
    assert not failed
    assert min(answered.values()) >= 2
    assert {model["name"]: model["loads"] for model in state["models"]} == {"llm": 1, "embeddings": 1}
