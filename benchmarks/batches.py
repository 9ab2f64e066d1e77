"""A batch of 2,000 embeddings beside people who chat: what it costs them, and what they cost it.

Three runs in turns on one server: chat alone, the batch alone, both. Two people chat, each thinking for about a
second between two answers of 48 tokens. Then batches under endless load: three chat and three embedding clients in a
closed loop without a pause, on the models that the batches want too.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import uvloop

from _load import measure, warm
from _machine import Cores, keep
from mixed import chat, sentence, serving, workload

TALKERS = 2
THINKS = (0.5, 1.5)  # seconds
LINES = 2000
MOST_P95 = 1.2
MOST_TIME = 1.3


@dataclass(frozen=True, slots=True)
class Said:
    """One answer to a person, by one clock."""

    began: float
    ended: float
    run: float  # seconds on the device


def bodies(words: random.Random) -> Iterator[dict[str, Any]]:
    """Questions without end."""
    while True:
        body = chat(words)
        del body["stream"], body["stream_options"]
        yield body


async def talk(http: httpx2.AsyncClient, seed: int, said: list[Said], until: asyncio.Event) -> None:
    """One person."""
    words = random.Random(seed)
    for body in bodies(words):
        began = time.monotonic()
        answer = await http.post("/v1/chat/completions", json=body)
        answer.raise_for_status()
        said.append(Said(began, time.monotonic(), int(answer.headers["x-cohabit-run-ms"]) / 1000))
        if until.is_set():
            return
        await asyncio.sleep(words.uniform(*THINKS))


async def begin(http: httpx2.AsyncClient, count: int, seed: int, model: str = "embeddings") -> str:
    """A batch of so many lines; its id."""
    words = random.Random(seed)
    lines = []
    for number in range(count):
        url, body = "/v1/embeddings", {"model": model, "input": [sentence(words) for _ in range(6)]}
        if model == "llm":
            url, body = "/v1/chat/completions", next(bodies(words))
        lines.append(json.dumps({"custom_id": str(number), "method": "POST", "url": url, "body": body}))
    files = {"file": ("lines.jsonl", "\n".join(lines).encode())}
    sent = (await http.post("/v1/files", data={"purpose": "batch"}, files=files)).json()
    asked = {"input_file_id": sent["id"], "endpoint": "/v1/embeddings", "completion_window": "24h"}
    made: dict[str, str] = (await http.post("/v1/batches", json=asked)).json()
    return made["id"]


async def answered(http: httpx2.AsyncClient, batch: str) -> int:
    """Lines of it."""
    found = (await http.get(f"/v1/batches/{batch}")).json()
    counts = found["request_counts"]
    if counts["failed"]:
        raise SystemExit(f"{counts['failed']} lines of the batch failed")
    return -1 if found["status"] == "completed" else counts["completed"]


async def batch_seconds(http: httpx2.AsyncClient, seed: int) -> float:
    """How long a batch takes."""
    began = time.monotonic()
    batch = await begin(http, LINES, seed)
    while await answered(http, batch) >= 0:  # noqa: ASYNC110 - over HTTP there is nothing to wait for
        await asyncio.sleep(0.1)
    return time.monotonic() - began


async def chatting(http: httpx2.AsyncClient, seed: int, work: Any) -> tuple[list[Said], Any]:
    """People who chat while something goes on; what they were told, and what came of it."""
    said: list[Said] = []
    until = asyncio.Event()
    people = [asyncio.create_task(talk(http, seed + number, said, until)) for number in range(TALKERS)]
    found = await work
    until.set()
    await asyncio.gather(*people)
    return said, found


def p95(said: Sequence[Said]) -> float:
    """Of the time to the whole answer, in seconds."""
    return statistics.quantiles([each.ended - each.began for each in said], n=20)[-1]


def device_seconds(said: Sequence[Said], seconds: float) -> float:
    """In which the chat model ran for anybody: its answers share it."""
    began = min(each.began for each in said)
    busy, last = 0.0, 0.0
    for start, end in sorted((each.ended - each.run, each.ended) for each in said):
        busy += max(0.0, min(end, began + seconds) - max(start, last))
        last = max(last, end)
    return busy


async def turn(url: str, seed: int, seconds: float) -> dict[str, Any]:
    """All three, one after the other."""
    async with httpx2.AsyncClient(base_url=url, timeout=120.0) as http:
        alone, _ = await chatting(http, seed, asyncio.sleep(seconds))
        batch = await batch_seconds(http, seed)
        beside, both = await chatting(http, seed, batch_seconds(http, seed))
    device = device_seconds(beside, both)
    return {
        "chat_p95_alone": round(p95(alone), 3),
        "chat_p95_beside": round(p95(beside), 3),
        "chats": [len(alone), len(beside)],
        "batch_alone": round(batch, 2),
        "batch_beside": round(both, 2),
        "chat_device_seconds": round(device, 2),
        "ratios": {
            "chat_p95": round(p95(beside) / p95(alone), 3),
            "batch": round(both / (batch + device), 3),
        },
    }


async def endless(url: str, seconds: float) -> dict[str, float]:
    """Lines a minute of both models under a load that leaves nothing free."""
    kinds = [kind for kind in workload() if kind.name in {"chat", "embed"}]
    async with httpx2.AsyncClient(base_url=url, timeout=120.0) as http:
        batches = {model: await begin(http, LINES, 9, model) for model in ("embeddings", "llm")}
        load = asyncio.create_task(measure(url, kinds, seconds))
        await asyncio.sleep(3.0)  # until the load is there
        before = {model: await answered(http, batch) for model, batch in batches.items()}
        began = time.monotonic()
        await load
        passed = time.monotonic() - began
        after = {model: await answered(http, batch) for model, batch in batches.items()}
        for batch in batches.values():
            await http.post(f"/v1/batches/{batch}/cancel")
    return {model: round((after[model] - before[model]) * 60 / passed, 1) for model in batches}


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=40.0, help="of chat alone, and of the endless load")
    asked = parser.parse_args()
    with serving("cohabit") as (url, pid):
        kinds = [kind for kind in workload() if kind.name in {"chat", "embed"}]
        uvloop.run(warm(url, kinds))
        cores = Cores(pid)
        turns = [uvloop.run(turn(url, seed, asked.seconds)) for seed in range(asked.turns)]
        advance = uvloop.run(endless(url, asked.seconds))
        shares = cores.shares()
    medians = {name: statistics.median(each["ratios"][name] for each in turns) for name in ("chat_p95", "batch")}
    met = {
        "chat's p95": {"is": medians["chat_p95"], "at most": MOST_P95, "met": medians["chat_p95"] <= MOST_P95},
        "the batch": {"is": medians["batch"], "at most": MOST_TIME, "met": medians["batch"] <= MOST_TIME},
        "under endless load": {"is": min(advance.values()), "above": 0, "met": min(advance.values()) > 0},
    }
    figures = {
        "lines": LINES,
        "talkers": TALKERS,
        "cores_percent": shares,
        "median_ratios": medians,
        "lines_per_minute_under_endless_load": advance,
        "verdict": met,
        "turns": turns,
    }
    keep("batches", figures)


if __name__ == "__main__":
    main()
