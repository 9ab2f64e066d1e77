"""The preset's models on a real card, and two large embedding models of which one fits beside them.

``python benchmarks/gpu/embedded.py --large BERT.onnx`` after ``cohabit pull``; the file is what ``bert.py`` writes.
xllamacpp and ONNX Runtime have to be builds with CUDA. What the models answer on the card is put beside what they
answer on the host; what they take is asked of the driver.
"""

import argparse
import json
import math
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx2

sys.path.append(str(Path(__file__).parents[1]))

from _card import (
    QUESTIONS,
    Steps,
    card,
    hear,
    learned,
    model,
    say,
    serving,
    status,
    streamed,
    together,
    used,
    waits,
    watched,
)
from harness import preset, wait_until
from mixed import invoice, sentence

MIB = 1 << 20
PATIENCE = 120.0
SPOKEN = "The train to the old harbour leaves at nine in the morning."


def on_the_host() -> dict[str, Any]:
    """The preset's models."""
    made: dict[str, Any] = json.loads(preset("llm", "vision", "embeddings", "tts", "stt"))
    return made


def config(asked: argparse.Namespace) -> dict[str, Any]:
    """On the card, with the large ones beside it. What the preset says of needs on a host says nothing of a card."""
    models = on_the_host()["models"]
    for each in models.values():
        del each["footprint"]
    large = models["embeddings"] | {"source": f"file:{asked.large}", "aliases": []}
    models["one"] = large | {"options": {"max_batch_tokens": 4096}, "footprint": asked.footprint}
    models["two"] = models["one"]
    device = {"kind": asked.kind, "budget": asked.budget << 20, "keep_free": "1GiB"}
    return {"device": device, "scheduling": {"max_wait": 5}, "models": models}


def vectors(http: httpx2.Client, name: str, texts: list[str]) -> list[list[float]]:
    """One for each text."""
    answer = http.post("/v1/embeddings", json={"model": name, "input": texts})
    assert answer.status_code == 200, answer.text
    return [each["embedding"] for each in answer.json()["data"]]


def seen(http: httpx2.Client, seed: int = 1) -> dict[str, Any]:
    """What is found in a picture with three lines of text."""
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{invoice(random.Random(seed))}"}}
    body = {"model": "vision", "messages": [{"role": "user", "content": [picture]}]}
    answer = http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["findings"][0]
    return {"labels": found["labels"], "text": [line["text"] for line in found["text"]]}


def spoken(http: httpx2.Client) -> bytes:
    """A sentence, as sound."""
    answer = http.post("/v1/audio/speech", json={"model": "tts", "input": SPOKEN, "response_format": "wav"})
    assert answer.status_code == 200, answer.text
    return answer.content


def answers(http: httpx2.Client) -> dict[str, Any]:
    """Of all five; vectors are left out when they are kept."""
    texts = [sentence(random.Random(seed)) for seed in range(8)]
    return {
        "said": [say(http, "llm", text, 24) for text in QUESTIONS],
        "seen": seen(http),
        "heard": hear(http, spoken(http)),
        "vectors": vectors(http, "embeddings", texts),
    }


def compared(host: dict[str, Any], there: dict[str, Any]) -> dict[str, Any]:
    """How far apart they are: the least cosine of two vectors of one text, and what is not the same word for word."""
    cosines = [
        sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)
        for one, other in zip(host["vectors"], there["vectors"], strict=True)
    ]
    scores = [
        abs(one["score"] - other["score"])
        for one, other in zip(host["seen"]["labels"], there["seen"]["labels"], strict=True)
    ]
    found = {
        "least_cosine": round(min(cosines), 6),
        "same_labels": [each["label"] for each in host["seen"]["labels"]]
        == [each["label"] for each in there["seen"]["labels"]],
        "most_apart_in_score": max(scores),
        "same_lines": host["seen"]["text"] == there["seen"]["text"],
        "same_hearing": host["heard"] == there["heard"],
        "same_answers": sum(one == other for one, other in zip(host["said"], there["said"], strict=True)),
    }
    assert found["least_cosine"] > 0.99, found
    assert found["same_labels"], found
    assert found["same_lines"], found
    return found


def asks(http: httpx2.Client, sound: bytes) -> dict[str, Callable[[], object]]:
    """One request of each model."""
    words = random.Random(2)
    return {
        "llm": lambda: streamed(http, "llm", 16),
        "vision": lambda: seen(http, words.randrange(1000)),
        "embeddings": lambda: vectors(http, "embeddings", [sentence(words) for _ in range(8)]),
        "tts": lambda: spoken(http),
        "stt": lambda: hear(http, sound),
        "one": lambda: vectors(http, "one", [sentence(words) for _ in range(8)]),
        "two": lambda: vectors(http, "two", [sentence(words) for _ in range(8)]),
    }


def one_by_one(http: httpx2.Client, pid: int, sound: bytes) -> dict[str, Any]:
    """Each model alone: what it takes by the driver and by the books, and that nothing is left when it has gone."""
    figures = {}
    for each in status(http)["models"]:
        assert http.post(f"/admin/models/{each['name']}/unload").status_code == 200
    wait_until(lambda: not used())
    for name, ask in asks(http, sound).items():
        if name == "two":
            continue
        began = time.monotonic()
        with watched(pid) as watch:
            ask()
        took = time.monotonic() - began
        found = model(http, name)
        figures[name] = {
            "first_answer_seconds": round(took, 3),
            "driver_says_mib": used().get(found["pid"], 0) // MIB,
            "most_of_all_mib": watch.most // MIB,
            "booked_mib": found["resident"] // MIB,
        }
        assert http.post(f"/admin/models/{name}/unload").status_code == 200
        wait_until(lambda: not used())
    return figures


def rates(http: httpx2.Client, names: list[str], seconds: float) -> dict[str, Any]:
    """Texts embedded a second by four clients that send 32 at a time."""
    figures = {}
    for name in names:
        ends = time.monotonic() + seconds
        done: list[float] = []

        def client(seed: int, name: str = name, ends: float = ends, done: list[float] = done) -> None:
            words = random.Random(seed)
            while time.monotonic() < ends:
                began = time.monotonic()
                vectors(http, name, [sentence(words) for _ in range(32)])
                done.append(time.monotonic() - began)

        together(*[partial(client, seed) for seed in range(4)])
        figures[name] = {
            "texts_per_second": round(32 * len(done) / seconds),
            "p50_ms": round(statistics.median(done) * 1000, 1),
        }
    return figures


def loads(http: httpx2.Client) -> dict[str, int]:
    """How often each came in since the server started."""
    return {each["name"]: each["loads"] for each in status(http)["models"]}


def mixed(http: httpx2.Client, pid: int, asked: argparse.Namespace, sound: bytes) -> dict[str, Any]:
    """Everybody at once: one client for each of the five, and two who ask for either of the large ones."""
    ends = time.monotonic() + asked.busy
    ask = asks(http, sound)
    served: dict[str, list[float]] = {}
    before = loads(http)

    def client(names: list[str], seed: int) -> None:
        words = random.Random(seed)
        while time.monotonic() < ends:
            name = words.choice(names)
            began = time.monotonic()
            ask[name]()
            served.setdefault(name, []).append(time.monotonic() - began)

    clients = [[name] for name in ask if name not in {"one", "two"}] + [["one", "two"]] * 2
    with watched(pid) as watch:
        together(*[partial(client, names, seed) for seed, names in enumerate(clients)])
    figures = {
        "seconds": asked.busy,
        "budget_mib": asked.budget,
        "most_held_mib": watch.most // MIB,
        "samples": len(watch.samples),
        "answers": waits(served),
        "loads": {name: count - before[name] for name, count in loads(http).items()},
        "alerts": status(http)["alerts"],
    }
    print(json.dumps(figures), flush=True)
    assert watch.most <= asked.budget * MIB, figures
    return figures


def main() -> None:
    """Everything, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--large", required=True, help="an embedding model of some hundred MiB")
    parser.add_argument("--kind", default="cuda:0", help="cpu to try the script itself")
    parser.add_argument("--budget", type=int, default=5120, help="MiB of the card")
    parser.add_argument("--footprint", type=json.loads, default={}, help="of the large models, as in a config")
    parser.add_argument("--busy", type=float, default=30.0, help="seconds of many clients")
    asked = parser.parse_args()
    steps = Steps(card())
    kept: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home)
        os.environ["XDG_STATE_HOME"] = home  # nothing measured before counts

        def answered(where: str, http: httpx2.Client) -> dict[str, Any]:
            kept[where] = answers(http)
            kept["sound"] = spoken(http)
            return {what: found for what, found in kept[where].items() if what != "vectors"}

        with serving(on_the_host(), folder, PATIENCE) as (http, _):
            steps.do("on_the_host", lambda: answered("host", http))
        with serving(config(asked), folder, PATIENCE) as (http, pid):
            steps.do("planned", lambda: learned(http))
            steps.do("on_the_card", lambda: answered("card", http))
            steps.do("compared", lambda: compared(kept["host"], kept["card"]))
            steps.do("one_by_one", lambda: one_by_one(http, pid, kept["sound"]))
            steps.do("rates", lambda: rates(http, ["embeddings", "one"], 4.0))
            steps.do("learned", lambda: learned(http))
            steps.do("mixed", lambda: mixed(http, pid, asked, kept["sound"]))
            steps.do("measured", lambda: learned(http))
        steps.end("gpu_embedded", folder)


if __name__ == "__main__":
    main()
