"""Crowds do not hold up the event loop: none of its steps takes more than 50 ms of its thread's processor time."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import steps
from cohabit.openai.inference import MOST_ITEMS
from harness import Running, serving

pytestmark = pytest.mark.process

CONFIG = """
device: {budget: 512MiB}
models:
  quick: {engine: fake, concurrency: 64}
  stuck: {engine: fake, options: {run_seconds: 600}}
"""


@dataclass
class Measured:
    """A server, and what its event loop did."""

    server: Running
    file: Path

    def forget(self) -> None:
        """What it did so far."""
        self.file.unlink(missing_ok=True)

    def steps(self) -> list[steps.Step]:
        """Those that were noted, the longest first."""
        self.server.http.get("/health/live")  # what answered before has ended by then
        return steps.noted(self.file)

    def check(self) -> None:
        """No step was too long."""
        assert [step for step in self.steps() if step.seconds > steps.MOST] == []


@contextmanager
def measured(folder: Path, config: str = CONFIG) -> Iterator[Measured]:
    """A server that has answered something, so that what it imports late is there."""
    file = folder / "steps.jsonl"
    with serving(folder, config, measured=True, within=steps.within(file)) as server:
        assert server.chat(model="quick").status_code == 200
        found = Measured(server, file)
        found.forget()
        yield found


def chats(model: str, count: int = MOST_ITEMS, size: int = 10) -> list[dict[str, Any]]:
    """Items of a batch; each has ``size`` bytes of text."""
    text = "x" * size
    return [{"type": "chat", "model": model, "data": {"prompt": f"{text}{index}"}} for index in range(count)]


def test_a_long_step_is_noted_with_where_it_was(tmp_path: Path) -> None:
    script, file = tmp_path / "busy.py", tmp_path / "steps.jsonl"
    script.write_text(
        "import asyncio, time, uvloop\n"
        "def spin(seconds):\n"
        "    end = time.thread_time() + seconds\n"
        "    while time.thread_time() < end: pass\n"
        "async def main():\n"
        "    await asyncio.sleep(0)\n"
        "    time.sleep(0.1)\n"
        "    await asyncio.sleep(0)\n"
        "    spin(0.06)\n"
        "uvloop.run(main())\n"
    )
    subprocess.run([*steps.within(file), script], check=True)
    longest, *others = steps.noted(file)
    assert longest.seconds > steps.MOST
    assert any("spin" in each for each in longest.where)
    assert all(step.seconds < steps.MOST for step in others), "to sleep takes no processor time"


@pytest.mark.parametrize("headers", [{}, {"accept": "application/x-ndjson"}])
def test_a_batch_of_as_many_items_as_may_be(tmp_path: Path, headers: dict[str, str]) -> None:
    body = json.dumps(chats("quick", size=7000)).encode()
    with measured(tmp_path) as found:
        answer = found.server.http.post("/batch", content=body, headers=headers)
        assert answer.text.count('"result":') == MOST_ITEMS
        found.check()
