"""Streams reach their clients whole, in order, and as they are made."""

import asyncio
import json
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx2
import pytest

from harness import Running, serving

pytestmark = pytest.mark.process

STREAMS, TOKENS = 100, 200
CONFIG = f"""
device: {{kind: cpu, budget: 1GiB}}
models:
  fake: {{engine: fake, concurrency: {STREAMS}, options: {{tokens: {TOKENS}}}}}
"""


@pytest.fixture(scope="module")
def fakes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server that can run them all at once."""
    with serving(tmp_path_factory.mktemp("streams"), CONFIG) as running:
        yield running


def asking(**fake: Any) -> dict[str, Any]:
    return {"model": "fake", "stream": True, "messages": [{"role": "user", "content": "Count."}], "fake": fake}


@pytest.mark.parametrize("token_seconds", [0.0, 0.01])
async def test_hundred_streams_at_once_are_complete_and_in_order(fakes: Running, token_seconds: float) -> None:
    """With and without pauses: the chunks of all are mixed on the worker's one socket, or come in bursts."""
    everything = httpx2.Limits(max_connections=None)
    async with httpx2.AsyncClient(base_url=fakes.url, timeout=50.0, limits=everything) as http:
        body = asking(token_seconds=token_seconds)
        calls = [http.post("/v1/chat/completions", json=body) for _ in range(STREAMS)]
        answers = await asyncio.gather(*calls)
    ids = set()
    for answer in answers:
        *events, done, nothing = answer.text.split("\n\n")
        chunks = [json.loads(event.removeprefix("data: ")) for event in events]
        assert (done, nothing) == ("data: [DONE]", "")
        assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks] == [
            *(f"{index} " for index in range(TOKENS)),
            None,
        ]
        ids |= {chunk["id"] for chunk in chunks}
    assert len(ids) == STREAMS, "no chunk is in another's stream"


def test_chunk_arrives_before_the_next_is_made(fakes: Running) -> None:
    """How soon is measured by benchmarks/streams.py; here only that nothing is kept back to be sent with more."""
    stamps, arrivals = [], []
    with fakes.http.stream(
        "POST", "/v1/chat/completions", json=asking(stamp=True, tokens=20, token_seconds=0.2)
    ) as answer:
        for line in answer.iter_lines():
            if '"content"' in line:
                arrivals.append(time.monotonic())
                stamps.append(float(json.loads(line.removeprefix("data: "))["choices"][0]["delta"]["content"]))
    assert len(stamps) == 20
    assert all(made < came for made, came in zip(stamps, arrivals, strict=True)), "one clock for both"
    late = [came for came, (_, following) in zip(arrivals, pairwise(stamps), strict=False) if came >= following]
    assert len(late) <= 10, "a machine may pause; a stream that is kept back is late every time"
