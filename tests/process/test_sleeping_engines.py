"""Real engines let go of their weights when they sleep, and answer the same when they are back."""

import json
import re
from statistics import median
from typing import Any

import pytest
from platformdirs import user_cache_path

from cohabit.config.load import load_config
from cohabit.engines.registry import engine_class
from cohabit.protocol.tasks import Task
from cohabit.runtime.requests import ModelRequest
from cohabit.server.assemble import launches
from process.worker_driver import driving
from samples import asking, clean_picture, clean_sound, saved, tone, written

pytestmark = [pytest.mark.process, pytest.mark.model]

MIB = 1 << 20
CHAT = {"messages": [{"role": "user", "content": "Name a colour."}], "temperature": 0, "seed": 1, "max_tokens": 8}
ASKED: dict[str, tuple[Task, dict[str, Any], dict[str, bytes]]] = {
    "llm": (Task.CHAT, CHAT, {}),
    "vision": (Task.DESCRIBE, {"messages": asking(clean_picture(saved(written("INVOICE 2026-00417"))))}, {}),
    "embeddings": (Task.EMBED, {"input": ["A man is eating food", "Stocks crashed"]}, {}),
    "tts": (Task.SPEAK, {"input": "The ship left at dawn.", "response_format": "wav"}, {}),
    "stt": (Task.TRANSCRIBE, {}, {"file": clean_sound(tone(2.0))}),
}
FREED = {"llm": 250, "vision": 45, "embeddings": 80, "tts": 70, "stt": 40}  # MiB at least; weights and what they take


@pytest.mark.parametrize("name", ASKED)
async def test_it_frees_its_weights_and_answers_the_same_afterwards(name: str) -> None:
    config = load_config("embedded")
    assert engine_class(config.models[name].engine).sleeps
    cache = user_cache_path("cohabit")
    task, body, blobs = ASKED[name]
    call = ModelRequest(model="m", task=task, body=json.dumps(body).encode(), client="test", blobs=blobs)
    async with driving(launches(config, cache / "weights", cache / "derived")[name]) as driver:
        await driver.started()
        before = same(await driver.ask(call))
        residues = []
        for _ in range(4):
            slept = await driver.slept()
            residues.append(slept.held)
            woken = await driver.woken()
            assert same(await driver.ask(call)) == before
        # It differs by what the heap's fragments happen to hold, and does not grow from sleep to sleep.
        assert woken.idle - median(residues) > FREED[name] * MIB, residues
        assert min(residues[2:]) - residues[0] < 6 * MIB, residues
        await driver.stopped()


def same(answer: bytes) -> bytes:
    """Without what differs from answer to answer: its name and its time."""
    return re.sub(rb'"(id|created)":("[^"]*"|\d+)', b"", answer)
