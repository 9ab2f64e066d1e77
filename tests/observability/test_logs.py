"""Lines are whole, in order, and written once a round of the event loop."""

import asyncio
import json
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from cohabit.observability.logs import configure


class File:
    """Standard error: what was in it after each flush."""

    def __init__(self) -> None:
        self.text = ""
        self.flushed: list[str] = []

    def isatty(self) -> bool:
        """No terminal."""
        return False

    def write(self, text: str) -> None:
        """More of it."""
        self.text += text

    def flush(self) -> None:
        """To the kernel."""
        self.flushed.append(self.text)
        self.text = ""

    @property
    def events(self) -> list[list[str]]:
        """By flush."""
        return [[json.loads(line)["event"] for line in text.splitlines()] for text in self.flushed]


@pytest.fixture
def file(monkeypatch: pytest.MonkeyPatch) -> Iterator[File]:
    """In the place of standard error, of a process that logs there."""
    found = File()
    monkeypatch.setattr(sys, "stderr", found)
    configure("info")
    yield found
    structlog.reset_defaults()


def log() -> Any:
    """Not the one that was made for another file."""
    return structlog.get_logger()


async def test_one_write_a_round(file: File) -> None:
    for name in "ab":
        log().info(name)
    assert file.events == []
    await asyncio.sleep(0)
    assert file.events == [["a", "b"]]
    log().info("c")
    await asyncio.sleep(0)
    assert file.events == [["a", "b"], ["c"]]


def test_without_an_event_loop_at_once(file: File) -> None:
    log().info("a")
    assert file.events == [["a"]]


async def test_another_threads_line_does_not_wait_and_overtakes_none(file: File) -> None:
    log().info("a")
    thread = threading.Thread(target=lambda: log().info("b"))
    thread.start()
    thread.join()
    assert file.events == [["a", "b"]]
    log().info("c")
    await asyncio.sleep(0)
    assert [event for written in file.events for event in written] == ["a", "b", "c"]
