"""A closed loop of clients, light enough to share two cores with the server it measures. Not a benchmark itself.

Bare HTTP/1.1 on kept connections, one a client: what it takes is a few per cent of a core.
"""

import asyncio
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle, pairwise
from typing import Any, cast

import httptools
import msgspec

RAMP = 3.0  # seconds of load before the clock starts, so that it does not see everybody begin at once


class Failed(Exception):
    """A server answered with something else than what was asked for."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of client: how many, and what each asks for, over and over."""

    name: str
    clients: int
    path: str
    bodies: Sequence[bytes]
    tokens: int | None = None  # of a streamed answer; None where it is not a stream


@dataclass(slots=True)
class Answer:
    """One request as its client saw it; seconds by one clock."""

    began: float
    ended: float = 0.0
    status: int = 0
    tokens: list[float] = field(default_factory=list)  # when each came
    counted: int = 0  # tokens by the server's own account


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta


class _Usage(msgspec.Struct):
    completion_tokens: int


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None


_event = msgspec.json.Decoder(_Event).decode


class Client(asyncio.Protocol):
    """One connection; one request at a time on it."""

    def __init__(self) -> None:
        """Connect it with ``connect``."""
        self._transport: asyncio.Transport | None = None
        self._answer = Answer(0.0)
        self._done: asyncio.Future[None] | None = None
        self._stream = False
        self._rest = b""

    @classmethod
    async def connect(cls, url: str) -> "Client":
        """To a server."""
        host, _, port = url.removeprefix("http://").rpartition(":")
        _, client = await asyncio.get_running_loop().create_connection(cls, host, int(port))
        return client

    async def post(self, path: str, body: bytes, *, stream: bool = False) -> Answer:
        """Send it, wait for the end of its answer. Raises Failed."""
        assert self._transport is not None
        self._parser = httptools.HttpResponseParser(self)
        self._stream, self._rest = stream, b""
        self._done = asyncio.get_running_loop().create_future()
        self._answer = Answer(time.monotonic())
        head = [
            f"POST {path} HTTP/1.1",
            "host: localhost",
            "content-type: application/json",
            f"content-length: {len(body)}",
        ]
        self._transport.write("\r\n".join([*head, "", ""]).encode() + body)
        await self._done
        if self._answer.status != 200:
            raise Failed(f"{path} was answered with {self._answer.status}")
        return self._answer

    def close(self) -> None:
        """Hang up."""
        assert self._transport is not None
        self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        """Pass it to the parser."""
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """A server that goes away in the middle of an answer has failed."""
        if self._done is not None and not self._done.done():
            self._done.set_exception(Failed(f"the connection was lost: {exc}"))

    # httptools

    def on_body(self, data: bytes) -> None:
        """Note when tokens come."""
        if not self._stream:
            return
        now = time.monotonic()
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for line in events:
            if not line.startswith(b"data: {"):
                continue
            event = _event(line[6:])
            if event.choices and event.choices[0].delta.content:
                self._answer.tokens.append(now)
            if event.usage is not None:
                self._answer.counted = event.usage.completion_tokens

    def on_message_complete(self) -> None:
        """The answer is whole."""
        self._answer.ended = time.monotonic()
        self._answer.status = self._parser.get_status_code()
        assert self._done is not None
        self._done.set_result(None)


async def warm(url: str, kinds: Sequence[Kind]) -> None:
    """One request of each kind, so that its model is there."""
    client = await Client.connect(url)
    for kind in kinds:
        await client.post(kind.path, kind.bodies[0], stream=kind.tokens is not None)
    client.close()


async def measure(url: str, kinds: Sequence[Kind], seconds: float) -> dict[str, Any]:
    """All clients in a closed loop for RAMP and then so many seconds; what was answered within these, by kind.

    Raises Failed.
    """
    begin = time.monotonic() + RAMP
    end = begin + seconds
    answers: dict[str, list[Answer]] = {kind.name: [] for kind in kinds}

    async def loop(kind: Kind, number: int) -> None:
        client = await Client.connect(url)
        first = number * len(kind.bodies) // kind.clients  # no two ask for the same at once
        for body in cycle([*kind.bodies[first:], *kind.bodies[:first]]):
            answer = await client.post(kind.path, body, stream=kind.tokens is not None)
            if kind.tokens is not None and answer.counted != kind.tokens:
                raise Failed(f"{kind.path}: {answer.counted} tokens instead of {kind.tokens}")
            if answer.ended >= end:
                break
            if answer.ended >= begin:
                answers[kind.name].append(answer)
        client.close()

    await asyncio.gather(*(loop(kind, number) for kind in kinds for number in range(kind.clients)))
    return {kind.name: _figures(kind, answers[kind.name], seconds) for kind in kinds}


def _figures(kind: Kind, answers: Sequence[Answer], seconds: float) -> dict[str, Any]:
    if not answers:
        raise Failed(f"{kind.name}: nothing was answered in {seconds} s")
    took = [answer.ended - answer.began for answer in answers]
    figures: dict[str, Any] = {
        "answers": len(answers),
        "per_second": round(len(answers) / seconds, 3),
        "p50_seconds": round(statistics.median(took), 3),
        "p95_seconds": round(percentile(took, 95), 3),
    }
    if kind.tokens is not None:
        gaps = [later - earlier for answer in answers for earlier, later in pairwise(answer.tokens)]
        first = [answer.tokens[0] - answer.began for answer in answers]
        figures |= {
            "first_token_p50_seconds": round(statistics.median(first), 3),
            "between_tokens_p50_ms": round(statistics.median(gaps) * 1000, 1),
            "between_tokens_p99_ms": round(percentile(gaps, 99) * 1000, 1),
        }
    return figures


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least so many per cent do not exceed."""
    return sorted(values)[max(0, math.ceil(len(values) * share / 100) - 1)]
