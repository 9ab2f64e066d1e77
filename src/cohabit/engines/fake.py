"""The engine ``fake``: allocates what it is told to, takes the time it is told to, streams, fails on demand.

For tests, benchmarks and trying a config without weights. Its answers have OpenAI's shapes and say nothing of
what was asked. A request may carry ``"fake": {...}`` to override any option for itself.
"""

import base64
import json
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from cohabit.engines.answer_builder import AnswerBuilder, usage, wants_usage
from cohabit.engines.card_memory import Card, Pinned
from cohabit.protocol.engine import Cancelled, Chunk, Count, Engine, EngineError, EngineRequest, ItemError, Output
from cohabit.protocol.spec import Device, Estimate, ModelSpec
from cohabit.protocol.tasks import Capability, Task

PAGE = 4096
STEP = 0.005  # seconds between two looks at ``cancelled``
PROCESS_BYTES = 40 << 20  # a Python worker with nothing in it


class FakeOptions(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What it pretends. Sizes in bytes, times in seconds."""

    idle: int = 0  # allocated and touched while loaded
    activation: int = 0  # allocated and touched while a run lasts
    load_seconds: float = 0.0
    sleep_seconds: float = 0.0
    wake_seconds: float | None = None  # None: as long as a load
    sleep_resident: int = 0  # allocated and touched while asleep
    run_seconds: float = 0.0  # before the first token
    tokens: int = 8  # chunks of an answer, unless the request asks for fewer
    token_seconds: float = 0.0
    stamp: bool = False  # the text of a stream's chunk is when it was made, by ``time.monotonic``, not its number
    dimensions: int = 8  # of an embedding
    context: Count = 4096
    threads: Count = 1
    fail: Literal["load", "sleep", "wake", "run", "oom", "item", "die", "hang"] | None = None
    fail_times: int | None = None  # only the first so many runs fail; None: all
    die_after_tokens: int | None = None  # with ``fail: die``: after so many chunks were sent


class FakeOverride(msgspec.Struct, kw_only=True):
    """Options that a request may override for itself."""

    activation: Annotated[int, Meta(ge=0, le=1 << 40)] | None = None
    run_seconds: Annotated[float, Meta(ge=0, le=86400)] | None = None
    tokens: Annotated[int, Meta(ge=0, le=10_000_000)] | None = None
    token_seconds: Annotated[float, Meta(ge=0, le=86400)] | None = None
    stamp: bool | None = None
    dimensions: Annotated[int, Meta(ge=1, le=65536)] | None = None
    fail: Literal["run", "oom", "item", "die", "hang"] | None = None
    fail_times: Annotated[int, Meta(ge=0, le=10_000_000)] | None = None
    die_after_tokens: Annotated[int, Meta(ge=0, le=10_000_000)] | None = None


class FakeParameters(msgspec.Struct, kw_only=True):
    """What a request may say beside OpenAI's fields."""

    fake: Annotated[FakeOverride, Meta(description="options that hold for this request")] | None = None


class Fake(Engine):
    """Gets requests singly, ``concurrency`` at once, like an engine with continuous batching."""

    tasks: ClassVar[frozenset[Task]] = frozenset({Task.CHAT, Task.COMPLETE, Task.EMBED, Task.RERANK})
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.SHORTEN})
    Options: ClassVar[type[msgspec.Struct]] = FakeOptions
    Parameters: ClassVar[Mapping[Task, type[msgspec.Struct]]] = MappingProxyType(dict.fromkeys(tasks, FakeParameters))
    continuous: ClassVar[bool] = True
    _memory: object
    _touched: Callable[[int], object]
    needs_source: ClassVar[bool] = False
    copies: ClassVar[bool] = True
    _card: Card | None = None
    _copy: Pinned | None = None

    @classmethod
    def estimate(cls, spec: ModelSpec, source_bytes: int) -> Estimate:
        """What it is told to allocate, and a process."""
        options = msgspec.convert(spec.options, FakeOptions)
        resident = PROCESS_BYTES + options.idle
        return Estimate(idle=resident, load=resident, activation=options.activation * spec.concurrency + (4 << 20))

    def load(self, spec: ModelSpec, device: Device) -> None:
        """Take the time and the memory."""
        self._name = spec.name
        self._options = msgspec.convert(spec.options, FakeOptions)
        self._runs = 0
        self._lock = threading.Lock()
        time.sleep(self._options.load_seconds)
        if self._options.fail == "load":
            raise EngineError("told to fail at load")
        if device.kind != "cpu":
            self._card = Card(device.index)
        self._touched = touched if self._card is None else self._card.touched
        self._memory = self._touched(self._options.idle)
        if spec.keep_copy and self._card is not None and self._options.idle:
            with suppress(MemoryError):  # then it is loaded anew each time
                self._copy = self._card.pinned(touched(self._options.idle))
                self.copied = len(self._copy)

    def sleep(self) -> bool:
        """Take the time, give the memory back but for the residue."""
        if self._options.fail == "sleep":
            raise RuntimeError("told to fail at sleep")
        time.sleep(self._options.sleep_seconds)
        self._memory = None
        self._memory = self._touched(self._options.sleep_resident)
        return True

    def wake(self) -> None:
        """Take the time and the memory again."""
        options = self._options
        if options.fail == "wake":
            raise MemoryError
        time.sleep(options.load_seconds if options.wake_seconds is None else options.wake_seconds)
        self._memory = None
        if self._card is not None and self._copy:
            self._memory = self._card.filled(self._copy)
        else:
            self._memory = self._touched(options.idle)

    def run(self, batch: Sequence[EngineRequest], cancelled: Cancelled) -> Iterator[Output]:
        """Answer each request in turn."""
        for request in batch:
            yield from self._answer(request, cancelled)

    def close(self) -> None:
        """Give the memory back."""
        self._memory = self._copy = None

    def _answer(self, request: EngineRequest, cancelled: Cancelled) -> Iterator[Output]:
        body = json.loads(request.body)
        options = self._overridden(body)
        fails = self._fails(options)
        memory = self._touched(options.activation)
        self._wait(options.run_seconds, request.id, cancelled)
        if fails and options.die_after_tokens is None:
            match options.fail:
                case "item":
                    yield ItemError(request.id, "told to refuse this request", code="fake_refusal", param="fake")
                    return
                case "oom":
                    raise MemoryError
                case "run":
                    raise RuntimeError("told to fail")
                case "die":
                    os._exit(17)
                case "hang":
                    while True:
                        time.sleep(3600)
        if request.task is Task.EMBED:
            dimensions = body.get("dimensions") or options.dimensions
            if dimensions > options.dimensions:
                message = f"dimensions must be from 1 to {options.dimensions} for {self._name}"
                yield ItemError(request.id, message, param="dimensions")
                return
            yield Chunk(request.id, _embeddings(self._name, body, dimensions))
        elif request.task is Task.RERANK:
            yield Chunk(request.id, _ranks(self._name, len(body["documents"])))
        elif body.get("stream"):
            yield from self._stream(request, body, options, cancelled, fails)
        else:
            count = _count(body, options)
            for _ in range(count):
                self._wait(options.token_seconds, request.id, cancelled)
                if cancelled(request.id):
                    return
            whole = AnswerBuilder(self._name, request).whole("word " * count, "length", usage(1, count))
            yield Chunk(request.id, whole, tokens=count)
        del memory

    def _stream(
        self, request: EngineRequest, body: dict[str, Any], options: FakeOptions, cancelled: Cancelled, fails: bool
    ) -> Iterator[Output]:
        answer = AnswerBuilder(self._name, request)
        count = _count(body, options)
        for index in range(count):
            self._wait(options.token_seconds, request.id, cancelled)
            if cancelled(request.id):
                return
            if fails and options.fail == "die" and index == options.die_after_tokens:
                time.sleep(0.05)  # let what was sent be read
                os._exit(17)
            text = f"{time.monotonic()} " if options.stamp else f"{index} "
            yield Chunk(request.id, answer.piece(text), tokens=1)
        yield Chunk(request.id, answer.piece(None, "length"))
        if wants_usage(body):
            yield Chunk(request.id, answer.usage_piece(usage(1, count)))

    def _overridden(self, body: dict[str, Any]) -> FakeOptions:
        override = body.get("fake")
        if not isinstance(override, dict):
            return self._options
        given = {name: value for name, value in override.items() if value is not None}
        return msgspec.structs.replace(self._options, **given)

    def _fails(self, options: FakeOptions) -> bool:
        with self._lock:
            self._runs += 1
            return options.fail is not None and (options.fail_times is None or self._runs <= options.fail_times)

    def _wait(self, seconds: float, request: int, cancelled: Cancelled) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not cancelled(request):
            time.sleep(min(left, STEP))


def touched(size: int) -> bytearray:
    """Memory that is really there: every page written."""
    memory = bytearray(size)
    memory[::PAGE] = b"\x01" * len(range(0, size, PAGE))
    return memory


def _count(body: dict[str, Any], options: FakeOptions) -> int:
    asked = body.get("max_completion_tokens") or body.get("max_tokens")
    return min(options.tokens, asked) if isinstance(asked, int) else options.tokens


def _embeddings(name: str, body: dict[str, Any], dimensions: int) -> bytes:
    texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
    if texts and isinstance(texts[0], int):
        texts = [texts]
    data = []
    for index in range(len(texts)):
        vector = [1.0 if place == index % dimensions else 0.0 for place in range(dimensions)]
        packed = base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode()
        embedding = packed if body.get("encoding_format") == "base64" else vector
        data.append({"object": "embedding", "index": index, "embedding": embedding})
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return msgspec.json.encode({"object": "list", "data": data, "model": name, "usage": usage})


def _ranks(name: str, count: int) -> bytes:
    """The later a document, the better."""
    results = [{"index": index, "relevance_score": (index + 1) / count} for index in range(count)]
    return msgspec.json.encode({"model": name, "results": results, "usage": {"total_tokens": count + 1}})
