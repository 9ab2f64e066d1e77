"""What clients that mean ill send, and how honest clients fare beside them.

Used by ``tests/e2e/test_attacks.py``, which says what must hold, and by ``benchmarks/attacks.py``, which says what it
costs the others.
"""

import base64
import io
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
from samples import chunk, data_url, picture, saved, tone, written

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


# sound and pictures that cost more than they are worth


def _crc8(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = ((value << 1) ^ 0x07) & 0xFF if value & 0x80 else (value << 1) & 0xFF
    return value


def _crc16(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = ((value << 1) ^ 0x8005) & 0xFFFF if value & 0x8000 else (value << 1) & 0xFFFF
    return value


def _utf8(number: int) -> bytes:
    """As FLAC numbers its frames."""
    return chr(number).encode() if number < 0xD800 else chr(number + 0x800).encode()


def flac_silence(rate: int, frames: int, block: int = 65535) -> bytes:
    """Silence in frames of ``block`` samples, a dozen bytes each."""
    info = struct.pack(">HH", block, block) + bytes(6) + ((rate << 44) | (15 << 36)).to_bytes(8, "big") + bytes(16)
    out = [b"fLaC\x80" + len(info).to_bytes(3, "big") + info]
    for number in range(frames):
        head = b"\xff\xf8\x70\x08" + _utf8(number) + struct.pack(">H", block - 1)
        frame = head + bytes([_crc8(head)]) + b"\0\0\0"
        out.append(frame + struct.pack(">H", _crc16(frame)))
    return b"".join(out)


def _box(kind: bytes, *data: bytes) -> bytes:
    whole = b"".join(data)
    return struct.pack(">I", 8 + len(whole)) + kind + whole


def _full(kind: bytes, *data: bytes, flags: int = 0) -> bytes:
    return _box(kind, struct.pack(">I", flags), *data)


def mp4_promising(samples: int, tracks: int = 1) -> bytes:
    """A few hundred bytes whose tables promise so many samples on each track."""
    entry = _box(b"mp4a", bytes(6), b"\0\1", bytes(8), struct.pack(">HHHHI", 2, 16, 0, 0, 48000 << 16))
    table = _box(
        b"stbl",
        _full(b"stsd", struct.pack(">I", 1), entry),
        _full(b"stts", struct.pack(">III", 1, samples, 1024)),
        _full(b"stsc", struct.pack(">IIII", 1, 1, samples, 1)),
        _full(b"stsz", struct.pack(">II", 1, samples)),
        _full(b"stco", struct.pack(">II", 1, 40)),
    )
    source = _box(b"dinf", _full(b"dref", struct.pack(">I", 1), _full(b"url ", flags=1)))
    media = _box(
        b"mdia",
        _full(b"mdhd", struct.pack(">IIIIHH", 0, 0, 48000, min(samples * 1024, 2**32 - 1), 0, 0)),
        _full(b"hdlr", bytes(4) + b"soun" + bytes(12) + b"x\0"),
        _box(b"minf", _full(b"smhd", bytes(4)), source, table),
    )
    header = _full(b"mvhd", struct.pack(">IIII", 0, 0, 48000, 1000), struct.pack(">IH", 0x10000, 0x100), bytes(70))
    all_tracks = [
        _box(b"trak", _full(b"tkhd", struct.pack(">IIIII", 0, 0, number + 1, 0, 0), bytes(60), flags=3), media)
        for number in range(tracks)
    ]
    kind = _box(b"ftyp", b"M4A \0\0\0\0M4A mp42")
    return kind + _box(b"mdat", bytes(64)) + _box(b"moov", header, *all_tracks)


def _element(ident: bytes, data: bytes) -> bytes:
    return ident + (len(data) | 1 << 56).to_bytes(8, "big") + data


def matroska_of_chapters(chapters: int) -> bytes:
    """Sound with chapters in descending order: a reader that looks through all before each takes quadratic time."""
    kind = _element(b"\x42\x86", b"\1") + _element(b"\x42\xf7", b"\1") + _element(b"\x42\xf2", b"\4")
    kind += _element(b"\x42\xf3", b"\x08") + _element(b"\x42\x82", b"matroska")
    kind += _element(b"\x42\x87", b"\4") + _element(b"\x42\x85", b"\2")
    info = _element(b"\x15\x49\xa9\x66", _element(b"\x2a\xd7\xb1", (1_000_000).to_bytes(4, "big")))
    sound = _element(b"\xb5", struct.pack(">f", 16000.0)) + _element(b"\x9f", b"\1") + _element(b"\x62\x64", b"\x10")
    track = _element(b"\xd7", b"\1") + _element(b"\x73\xc5", b"\1") + _element(b"\x83", b"\2")
    track += _element(b"\x86", b"A_PCM/INT/LIT") + _element(b"\xe1", sound)
    atoms = b"".join(
        b"\xb6\x8c\x73\xc4\x83"
        + (chapters - number).to_bytes(3, "big")
        + b"\x91\x84"
        + (number + 1).to_bytes(4, "big")
        for number in range(chapters)
    )
    cluster = _element(b"\xe7", b"\0") + _element(b"\xa3", b"\x81\0\0\x80" + bytes(3200))
    return (
        _element(b"\x1a\x45\xdf\xa3", kind)
        + b"\x18\x53\x80\x67\x01"
        + b"\xff" * 7
        + info
        + _element(b"\x16\x54\xae\x6b", _element(b"\xae", track))
        + _element(b"\x10\x43\xa7\x70", _element(b"\x45\xb9", atoms))
        + _element(b"\x1f\x43\xb6\x75", cluster)
    )


def wav(rate: int, samples: int) -> bytes:
    """Eight bits a sample."""
    form = struct.pack("<HHIIHH", 1, 1, rate, rate, 1, 8)
    head = b"WAVEfmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", samples)
    return b"RIFF" + struct.pack("<I", len(head) + samples) + head + b"\x80" * samples


def png_of_chunks(count: int) -> bytes:
    """A small picture with so many empty chunks."""
    return picture()[:33] + chunk(b"aaAa", b"") * count + picture()[33:]


def jpeg_of_scans(side: int, scans: int) -> bytes:
    """A progressive picture whose cheapest scan comes again and again; each goes over the whole picture."""
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (side, side), (120, 130, 140)).save(file, "JPEG", progressive=True, quality=30, subsampling=0)
    head, *found = file.getvalue().split(b"\xff\xda")
    last = found[-1][: found[-1].rindex(b"\xff\xd9")]
    cheapest = min(found[1:-1], key=len)
    parts = [*found[:-1], *[cheapest] * (scans - len(found)), last]
    return head + b"".join(b"\xff\xda" + part for part in parts) + b"\xff\xd9"


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
    Attack(
        "mp4 that promises samples", "stt", sending(_HEAR, as_form(lambda: mp4_promising(80_000_000), model="stt"))
    ),
    Attack(
        "mp4 of many tracks",
        "stt",
        sending(_HEAR, as_form(lambda: mp4_promising(10_000_000, tracks=10), model="stt")),
    ),
    Attack(
        "matroska of chapters", "stt", sending(_HEAR, as_form(lambda: matroska_of_chapters(100_000), model="stt")), 6
    ),
    Attack("flac of one hertz", "stt", sending(_HEAR, as_form(lambda: flac_silence(1, 1, 14400), model="stt"))),
    Attack("wav of one hertz", "stt", sending(_HEAR, as_form(lambda: wav(1, 14_000), model="stt"))),
    Attack("hours of silence", "stt", sending(_HEAR, as_form(lambda: flac_silence(16000, 3500), model="stt"))),
    Attack("jpeg of scans", "vision", sending(_CHAT, looking(lambda: jpeg_of_scans(4900, 250))), 4),
    Attack("png of chunks", "vision", sending(_CHAT, looking(lambda: png_of_chunks(500_000)))),
    Attack(
        "uploads that break off",
        None,
        sending("/v1/files", as_form(lambda: os.urandom(600_000), purpose="batch"), part=0.9),
        6,
    ),
    Attack("half requests", None, holding(_HALF, 400)),
)
