"""Real engines on a real card: llama.cpp and CTranslate2, by their own answers, by our books and by the driver.

``python benchmarks/gpu/real.py --llm SMALL.gguf --big BIG.gguf --stt FOLDER --sound FILE``: ``BIG.gguf`` is what
``weights.py`` writes, or any other of some GiB; it is served under two names that do not fit together. xllamacpp has
to be a build with CUDA. What the models answer on the card is put beside what they answer on the host.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2

sys.path.append(str(Path(__file__).parents[1]))

from _card import (
    COMMAND,
    QUESTIONS,
    Steps,
    card,
    hear,
    learned,
    model,
    say,
    seconds_until,
    serving,
    status,
    streamed,
    together,
    used,
    waits,
    watched,
)
from _load import percentile

GIB = 1 << 30
BUDGET = 8 * GIB
PATIENCE = 120.0  # seconds for an answer: kernels may have to be compiled for the card


def config(asked: argparse.Namespace, kind: str) -> dict[str, Any]:
    """Of a server on a card, or of the two small models on the host."""
    models: dict[str, Any] = {
        "llm": {
            "engine": "llamacpp",
            "source": f"file:{asked.llm}",
            "concurrency": 4,
            "priority": 3,
            "options": {"context": 2048, "chat_template": "chatml"},
        },
        "stt": {"engine": "whisper", "source": f"file:{asked.stt}", "options": {"beam_size": 1}},
    }
    if kind == "cpu":
        return {"device": {"kind": kind}, "models": models}
    for name in ("one", "two"):
        options = {"context": 4096, "chat_template": "chatml"}
        models[name] = {"engine": "llamacpp", "source": f"file:{asked.big}", "concurrency": 2, "options": options}
    return {
        "device": {"kind": kind, "budget": BUDGET, "keep_free": GIB},
        "scheduling": {"max_wait": 5},
        "models": models,
    }


def answers(http: httpx2.Client, asked: argparse.Namespace) -> dict[str, Any]:
    """Of the two small models."""
    return {"said": [say(http, "llm", text, 24) for text in QUESTIONS], "heard": hear(http, asked.sound.read_bytes())}


def rates(http: httpx2.Client, name: str, clients: int, seconds: float) -> dict[str, Any]:
    """Chats in a closed loop."""
    ends = time.monotonic() + seconds
    seen: list[list[float]] = []

    def client() -> None:
        while time.monotonic() < ends:
            seen.append(streamed(http, name, 64))

    together(*[client] * clients)
    gaps = [later - earlier for came in seen for earlier, later in pairwise(came[1:])]
    return {
        "clients": clients,
        "answers": len(seen),
        "pieces_per_second": round(sum(len(came) - 1 for came in seen) / seconds),
        "first_token_p50_ms": round(statistics.median(came[1] - came[0] for came in seen) * 1000, 1),
        "first_token_p99_ms": round(percentile([came[1] - came[0] for came in seen], 99) * 1000, 1),
        "between_tokens_p50_ms": round(statistics.median(gaps) * 1000, 2),
        "between_tokens_p99_ms": round(percentile(gaps, 99) * 1000, 2),
    }


def one_by_one(http: httpx2.Client, pid: int, names: list[str]) -> dict[str, Any]:
    """Each model alone: what it takes by the driver and by the books, and how long it takes to come and to wake."""
    figures = {}
    for name in names:
        with watched(pid) as watch:
            took = seconds_until(partial(first, http, name))
        found = model(http, name)
        figures[name] = {
            "first_answer_seconds": took,
            "driver_says_mib": used().get(found["pid"], 0) >> 20,
            "most_of_all_mib": watch.most >> 20,
            "booked_mib": found["resident"] >> 20,
        }
        slept = http.post(f"/admin/models/{name}/sleep")
        assert slept.status_code == 200, slept.text
        figures[name]["asleep_mib"] = used().get(found["pid"], 0) >> 20
        figures[name]["wake_and_answer_seconds"] = seconds_until(partial(first, http, name))
        assert http.post(f"/admin/models/{name}/unload").status_code == 200
    return figures


def first(http: httpx2.Client, name: str) -> bool:
    """One request of a model that has nothing to hear."""
    return bool(streamed(http, name, 4))


def mixed(http: httpx2.Client, pid: int, asked: argparse.Namespace) -> dict[str, Any]:
    """Two chat with the small model, one has sound heard, two ask for either of the large ones."""
    ends = time.monotonic() + asked.busy
    served: dict[str, list[float]] = {}
    streams: list[list[float]] = []

    def chats() -> None:
        while time.monotonic() < ends:
            streams.append(streamed(http, "llm", 48))

    def hears() -> None:
        while time.monotonic() < ends:
            began = time.monotonic()
            hear(http, asked.sound.read_bytes())
            served.setdefault("stt", []).append(time.monotonic() - began)

    def swaps(seed: int) -> None:
        words = random.Random(seed)
        while time.monotonic() < ends:
            name = words.choice(["one", "two"])
            came = streamed(http, name, 24)
            served.setdefault(name, []).append(came[-1] - came[0])

    with watched(pid) as watch:
        together(chats, chats, hears, lambda: swaps(1), lambda: swaps(2))
    gaps = [later - earlier for came in streams for earlier, later in pairwise(came[1:])]
    served["llm"] = [came[-1] - came[0] for came in streams]
    device = status(http)["devices"][0]
    figures = {
        "seconds": asked.busy,
        "budget_mib": BUDGET >> 20,
        "most_held_mib": watch.most >> 20,
        "samples": len(watch.samples),
        "foreign_mib": device["foreign"] >> 20,
        "answers": waits(served),
        "between_tokens_p50_ms": round(statistics.median(gaps) * 1000, 2),
        "between_tokens_p99_ms": round(percentile(gaps, 99) * 1000, 2),
        "loads": {each["name"]: each["loads"] for each in status(http)["models"]},
        "wakes": {each["name"]: each["wakes"] for each in status(http)["models"]},
    }
    print(json.dumps(figures), flush=True)
    assert watch.most <= BUDGET, figures
    return figures


def main() -> None:
    """Everything, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--llm", "--big", "--stt"):
        parser.add_argument(option, required=True)
    parser.add_argument("--sound", type=Path, required=True)
    parser.add_argument("--busy", type=float, default=40.0, help="seconds of many clients")
    asked = parser.parse_args()
    steps = Steps(card())
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        os.environ["COHABIT_HOME"] = home
        with serving(config(asked, "cpu"), folder, PATIENCE) as (http, _):
            steps.do("on_the_host", lambda: answers(http, asked))
        on_card = config(asked, "cuda:0")
        with serving(on_card, folder, PATIENCE) as (http, pid):
            steps.do("planned", lambda: learned(http))
            steps.do("on_the_card", lambda: answers(http, asked))
            steps.do("one_by_one", lambda: one_by_one(http, pid, ["llm", "one", "two"]))
            steps.do("learned", lambda: learned(http))
            steps.do("alone", lambda: rates(http, "llm", 4, 8.0))
        began = time.monotonic()
        done = subprocess.run(
            [*COMMAND, "measure", str(folder / "config.json")], capture_output=True, text=True, check=False
        )
        steps.figures["measure"] = {"seconds": round(time.monotonic() - began, 1), "said": done.stdout.splitlines()}
        print(done.stdout, done.stderr[-3000:], flush=True)
        steps.failed |= done.returncode != 0
        with serving(on_card, folder, PATIENCE) as (http, pid):
            steps.do("mixed", lambda: mixed(http, pid, asked))
            steps.do("measured", lambda: learned(http))
            steps.figures["alerts"] = status(http)["alerts"]
        steps.end("gpu_real", folder)


if __name__ == "__main__":
    main()
