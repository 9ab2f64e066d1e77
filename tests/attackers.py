"""What clients that mean ill send, and how honest clients fare beside them.

Used by ``tests/e2e/test_attacks.py``, which says what must hold, and by ``benchmarks/attacks.py``, which says what it
costs the others.
"""

import base64
import json
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import httpx2

from harness import Running
from hostile_media import flac, mkv, mp4, png_chunks, scans
from samples import data_url, saved, tone, written

HANG_UP = 4.0  # seconds after which an attacker gives up and comes again
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Attack:
    """``strike(server, end)`` attacks until ``end`` on the monotonic clock; every attacker calls it."""

    name: str
    target: str | None  # the model that is attacked, if it is one
    strike: Callable[[Running, float], None]
    attackers: int = 3

    @contextmanager
    def under_way(self, server: Running, seconds: float) -> Iterator[None]:
        """All attackers at work for so many seconds."""
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self.strike, args=(server, end)) for _ in range(self.attackers)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            for thread in threads:
                thread.join()


@dataclass(frozen=True, slots=True)
class Answer:
    """What an honest client got; ``status`` is 0 if the connection was lost or nothing came in time."""

    kind: str
    status: int
    seconds: float
    code: str | None = None


@dataclass(slots=True)
class Honest:
    """One client a kind of work, each in a closed loop."""

    server: Running
    limit: float  # seconds that a client waits
    kinds: Sequence[str]
    answers: list[Answer] = field(default_factory=list)

    def work(self, seconds: float = 0.0) -> None:
        """For so many seconds, and until the last answer; each asks at least once."""
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self._client, args=(kind, end)) for kind in self.kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self, kind: str, end: float) -> None:
        # A connection for each request: one that rests is closed where a crowd needs its place.
        alone = httpx2.Limits(max_keepalive_connections=0)
        with httpx2.Client(base_url=self.server.url, timeout=self.limit, limits=alone) as http:
            self.answers.append(_ask(http, kind))
            while time.monotonic() < end:
                self.answers.append(_ask(http, kind))


def _ask(http: httpx2.Client, kind: str) -> Answer:
    path, options = HONEST[kind]
    began = time.monotonic()
    try:
        got = http.post(path, **options)
    except httpx2.HTTPError:
        return Answer(kind, 0, time.monotonic() - began)
    code = None
    if got.status_code != 200 and got.headers.get("content-type", "").startswith(JSON):
        code = got.json()["error"]["code"]
    return Answer(kind, got.status_code, time.monotonic() - began, code)


_PAGE = base64.b64encode(saved(written("INVOICE 2026-00417"))).decode()
HONEST: dict[str, tuple[str, dict[str, Any]]] = {
    "llm": (
        "/v1/chat/completions",
        {"json": {"model": "llm", "max_tokens": 8, "messages": [{"role": "user", "content": "Say hello."}]}},
    ),
    "embeddings": ("/v1/embeddings", {"json": {"model": "embeddings", "input": "a man is eating food"}}),
    "vision": ("/inference", {"json": {"type": "describe_image", "data": {"image": _PAGE}}}),
    "stt": ("/v1/audio/transcriptions", {"data": {"model": "stt"}, "files": {"file": ("a.wav", tone(2))}}),
    "tts": ("/v1/audio/speech", {"json": {"model": "tts", "input": "Hello there."}}),
}


# how it is sent


def sending(
    path: str, make: Callable[[], tuple[bytes, str]], *, part: float = 1.0
) -> Callable[[Running, float], None]:
    """Send a body, or a ``part`` of it, again and again; hang up where no answer comes within HANG_UP."""

    def strike(server: Running, end: float) -> None:
        body, kind = make()
        url = httpx2.URL(server.url)
        head = (
            f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        message = head.encode() + body[: int(part * len(body))]
        while time.monotonic() < end:
            try:
                with socket.create_connection((url.host, url.port), timeout=HANG_UP) as connection:
                    connection.sendall(message)
                    if part == 1.0:
                        connection.recv(1 << 16)
            except OSError:
                continue  # refused, broken off, or no answer in time: an attacker does not mind

    return strike


def holding(message: bytes, connections: int) -> Callable[[Running, float], None]:
    """Open many connections, send the same on each, and keep them."""

    def strike(server: Running, end: float) -> None:
        url = httpx2.URL(server.url)
        held: list[socket.socket] = []
        try:
            for _ in range(connections):
                try:
                    one = socket.create_connection((url.host, url.port), timeout=HANG_UP)
                except OSError:
                    break
                held.append(one)
                try:
                    one.sendall(message)
                except OSError:
                    continue
            threading.Event().wait(max(0.0, end - time.monotonic()))
        finally:
            for one in held:
                one.close()

    return strike


def as_json(body: dict[str, Any]) -> Callable[[], tuple[bytes, str]]:
    """Written when it is first sent."""
    return cache(lambda: (json.dumps(body).encode(), JSON))


def as_form(data: Callable[[], bytes], **fields: str) -> Callable[[], tuple[bytes, str]]:
    """A form with a file, made when it is first sent."""

    @cache
    def make() -> tuple[bytes, str]:
        request = httpx2.Request("POST", "http://h/", data=fields, files={"file": ("a", data())})
        request.read()
        return request.content, request.headers["content-type"]

    return make


def chat(content: Any = "Say hello.", model: str = "llm", **fields: Any) -> dict[str, Any]:
    """The body of a chat."""
    return {"model": model, "max_tokens": 8, "messages": [{"role": "user", "content": content}], **fields}


def schema(shape: dict[str, Any]) -> dict[str, Any]:
    """For response_format."""
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": shape}}


def looking(data: Callable[[], bytes]) -> Callable[[], tuple[bytes, str]]:
    """A chat with a picture."""

    @cache
    def make() -> tuple[bytes, str]:
        parts = [{"type": "image_url", "image_url": {"url": data_url(data())}}]
        return json.dumps(chat(parts, model="vision")).encode(), JSON

    return make


def wav(rate: int, samples: int) -> bytes:
    """Eight bits a sample."""
    form = struct.pack("<HHIIHH", 1, 1, rate, rate, 1, 8)
    head = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", samples)
    return b"RIFF" + struct.pack("<I", len(head) + samples) + head + b"\x80" * samples


# all of them

_CHAT = "/v1/chat/completions"
_HEAR = "/v1/audio/transcriptions"
_MANY = {"type": "array", "items": {"type": "string"}, "minItems": 3_000_000, "maxItems": 3_000_000}
_HALF = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{"
_OPTIONAL = "\n".join(f"a{step} ::= a{step + 1}? a{step + 1}? a{step + 1}?" for step in range(40))


def _heavy_json(value: bytes, count: int) -> Callable[[], tuple[bytes, str]]:
    return cache(
        lambda: (json.dumps(chat())[:-1].encode() + b', "x": [' + (value + b",") * count + value + b"]}", JSON)
    )


ATTACKS: tuple[Attack, ...] = (
    Attack(
        "schema of millions of entries",
        "llm",
        sending(
            _CHAT,
            as_json(chat(response_format=schema({"type": "object", "properties": {"a": _MANY}, "required": ["a"]}))),
        ),
    ),
    Attack(
        "tool of millions of entries",
        "llm",
        sending(
            _CHAT,
            as_json(
                chat(
                    tools=[
                        {
                            "type": "function",
                            "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": _MANY}}},
                        }
                    ],
                    tool_choice="required",
                )
            ),
        ),
    ),
    Attack(
        "schema that refers to itself", "llm", sending(_CHAT, as_json(chat(response_format=schema({"$ref": "#"}))))
    ),
    Attack("grammar of optional parts", "llm", sending(_CHAT, as_json(chat(grammar="root ::= " + '"a"? ' * 3000)))),
    Attack(
        "grammar that triples forty times",
        "llm",
        sending(_CHAT, as_json(chat(grammar=f'root ::= a0\n{_OPTIONAL}\na40 ::= "a"'))),
    ),
    Attack(
        "grammar of brackets",
        "llm",
        sending(_CHAT, as_json(chat(grammar="root ::= " + "(" * 60000 + '"a"' + ")" * 60000))),
    ),
    Attack(
        "long memory for repetitions",
        "llm",
        sending(_CHAT, as_json(chat(repeat_last_n=220_000_000, repeat_penalty=1.1))),
    ),
    Attack("all probabilities", "llm", sending(_CHAT, as_json(chat(n_probs=49152, max_tokens=64)))),
    Attack(
        "many breakers of sequences",
        "llm",
        sending(_CHAT, as_json(chat(dry_multiplier=0.8, dry_sequence_breakers=[f"b{n}" for n in range(20_000)]))),
    ),
    Attack("one letter, very often", "llm", sending(_CHAT, as_json(chat("a" * 900_000)))),
    Attack("special tokens", "llm", sending(_CHAT, as_json(chat("<|im_end|>" * 90_000)))),
    Attack("large metadata", "llm", sending(_CHAT, as_json(chat(metadata={"a": [0] * 9_000_000})))),
    Attack("millions of empty lists", "llm", sending(_CHAT, _heavy_json(b"[]", 10_000_000))),
    Attack("millions of empty objects", "llm", sending(_CHAT, _heavy_json(b"{}", 10_000_000))),
    Attack("half a million parts", "llm", sending(_CHAT, as_json(chat([{"type": "text", "text": "a"}] * 400_000)))),
    Attack(
        "batches of thousands",
        "embeddings",
        sending(
            "/batch",
            cache(lambda: (json.dumps([{"type": "embed", "data": {"texts": ["x" * 7000]}}] * 4096).encode(), JSON)),
        ),
    ),
    Attack("mp4 that promises samples", "stt", sending(_HEAR, as_form(lambda: mp4(80_000_000), model="stt"))),
    Attack(
        "mp4 of many tracks",
        "stt",
        sending(_HEAR, as_form(lambda: mp4(10_000_000, tracks=10), model="stt")),
    ),
    Attack("matroska of chapters", "stt", sending(_HEAR, as_form(lambda: mkv(100_000), model="stt")), 6),
    Attack("flac of one hertz", "stt", sending(_HEAR, as_form(lambda: flac(1, 1, 14400), model="stt"))),
    Attack("wav of one hertz", "stt", sending(_HEAR, as_form(lambda: wav(1, 14_000), model="stt"))),
    Attack("hours of silence", "stt", sending(_HEAR, as_form(lambda: flac(16000, 3500), model="stt"))),
    Attack("jpeg of scans", "vision", sending(_CHAT, looking(lambda: scans(4900, 250))), 4),
    Attack("png of chunks", "vision", sending(_CHAT, looking(lambda: png_chunks(500_000)))),
    Attack(
        "uploads that break off",
        None,
        sending("/v1/files", as_form(lambda: os.urandom(600_000), purpose="batch"), part=0.9),
        6,
    ),
    Attack("half requests", None, holding(_HALF, 400)),
)
