"""Lines are whole and in order, nobody waits for them, and what nobody reads is counted."""

import asyncio
import json
import logging
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from cohabit.observability import log_writer
from cohabit.observability.log_writer import LogWriter
from cohabit.observability.logs import configure, drain


class Pipe:
    """In the place of standard error."""

    def __init__(self) -> None:
        self.reads, self.writes = os.pipe()

    def isatty(self) -> bool:
        """No terminal."""
        return False

    def fileno(self) -> int:
        """What is written to."""
        return self.writes

    def lines(self) -> list[dict[str, Any]]:
        """All that has been logged so far; at least one."""
        drain()
        return [json.loads(line) for line in os.read(self.reads, 1 << 20).splitlines()]

    def events(self) -> list[str]:
        """Of them, what they are about."""
        return [line["event"] for line in self.lines()]


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    """What a process logs to."""
    found = Pipe()
    hooks = threading.excepthook, sys.unraisablehook, logging.root.handlers[:]
    monkeypatch.setattr(sys, "stderr", found)
    configure("info")
    yield found
    drain()
    threading.excepthook, sys.unraisablehook, logging.root.handlers[:] = hooks
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    os.close(found.reads)
    os.close(found.writes)


def log() -> Any:
    """Not the one that was made for another file."""
    return structlog.get_logger()


async def test_lines_are_written_in_order(pipe: Pipe) -> None:
    for name in "ab":
        log().info(name)
    await asyncio.to_thread(lambda: log().info("c"))
    log().info("d")
    assert pipe.events() == list("abcd")


def test_level_is_kept(pipe: Pipe) -> None:
    log().debug("not this")
    log().warning("this")
    assert pipe.events() == ["this"]


def test_libraries_log_in_our_form_and_without_what_clients_sent(pipe: Pipe) -> None:
    logging.getLogger("uvicorn.error").error("Exception in %s", "canary", exc_info=ValueError("canary"))
    logging.getLogger("httpx2").info("not this")
    (line,) = pipe.lines()
    assert (line["event"], line["level"], line["logger"]) == ("Exception in %s", "error", "uvicorn.error")
    assert line["error"] == "ValueError"
    assert "canary" not in str(line)


def test_warnings_are_logged_too(pipe: Pipe) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", stacklevel=1)
    assert pipe.lines()[0]["logger"] == "py.warnings"


def test_thread_that_fails_is_logged_without_its_text(pipe: Pipe) -> None:
    def fails() -> None:
        raise ValueError("canary")

    thread = threading.Thread(target=fails, name="odd")
    thread.start()
    thread.join()
    (line,) = pipe.lines()
    assert (line["event"], line["thread"], line["error"]) == ("thread failed", "odd", "ValueError")


class Blocked:
    """A file that takes nothing until the test lets it."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.text = ""
        self.error: OSError | None = None
        self.piece = 1 << 20

    def write(self, data: bytes) -> int:
        """As ``os.write``."""
        assert self.open.wait(20)
        if self.error is not None:
            raise self.error
        self.text += data[: self.piece].decode()
        return min(len(data), self.piece)


@pytest.fixture
def structured(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[LogWriter], None]]:
    """Lets what the writer itself logs go to the writer."""

    def use(writer: LogWriter) -> None:
        structlog.configure(
            processors=[structlog.processors.JSONRenderer()],
            logger_factory=structlog.WriteLoggerFactory(writer),  # type: ignore[arg-type]  # as much of a file as is used
        )

    monkeypatch.setattr(log_writer, "MAX_WAITING", 100)
    yield use
    structlog.reset_defaults()


def test_blocked_file_delays_nothing_and_dropped_lines_are_counted(
    structured: Callable[[LogWriter], None],
) -> None:
    file = Blocked()
    writer = LogWriter(file.write)
    structured(writer)
    began = time.monotonic()
    for _ in range(1000):
        writer.write("ten bytes\n")
        writer.flush()
    assert time.monotonic() - began < 5, "a write would wait for ever"
    file.open.set()
    writer.drain(10)
    kept, told = file.text.split("{", 1)
    assert kept == "ten bytes\n" * 10
    assert json.loads("{" + told)["lines"] == 990


def test_partial_writes_keep_lines_whole() -> None:
    file = Blocked()
    file.piece = 3
    file.open.set()
    writer = LogWriter(file.write)
    writer.write("one line\n")
    writer.drain(10)
    assert file.text == "one line\n"


def test_failing_file_is_retried(structured: Callable[[LogWriter], None]) -> None:
    file = Blocked()
    file.open.set()
    file.error = OSError(28, "No space left on device")
    writer = LogWriter(file.write)
    structured(writer)
    writer.write("lost\n")
    writer.drain(10)
    file.error = None
    writer.write("kept\n")
    writer.drain(10)
    kept, told = file.text.split("{", 1)
    assert kept == "kept\n"
    assert json.loads("{" + told)["lines"] == 1


def test_thread_that_has_ended_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Blocked()
    file.open.set()
    writer = LogWriter(file.write)
    monkeypatch.setattr(writer, "_keep_writing", lambda: None)
    writer.write("one\n")
    writer.flush()
    assert writer._thread is not None
    writer._thread.join()
    monkeypatch.undo()
    writer.drain(10)
    assert file.text == "one\n"
