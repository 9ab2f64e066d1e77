"""A runtime that the test drives, and a client that does what no well-behaved client does."""

import asyncio
import base64
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx2
import msgspec
from starlette.types import ASGIApp, Message

from cohabit.api.routes.status import Status
from cohabit.core.admin import Objection
from cohabit.core.commands import Rejection, RejectReason
from cohabit.core.events import AdminRequest
from cohabit.core.snapshot import LISTED
from cohabit.inspector.pieces import cleaned
from cohabit.protocol.engine import Speech
from cohabit.protocol.inspection import Piece
from cohabit.protocol.tasks import Capability, Task
from cohabit.runtime.admin import AdminOutcome, Ending
from cohabit.runtime.requests import ModelRequest, ResponseFailed, ResponseStream
from cohabit.runtime.service import HealthReport, ModelInfo
from samples import tone

CANARY = "kanarienvogel"
"""Stands for what a client wrote: never in an error, never in the log."""

CHAT: dict[str, Any] = {"model": "llm", "messages": [{"role": "user", "content": "hello"}]}
CHAT_ANSWER = json.dumps(
    {
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi!"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    }
).encode()
EMBED_ANSWER = json.dumps({"data": [{"index": 0, "embedding": [1.0, 0.5]}]}).encode()
TOKENS = {"prompt_tokens": 7, "total_tokens": 7}
FINDING = {"width": 64, "height": 48, "labels": [], "text": []}
DESCRIBE_ANSWER = json.dumps({**json.loads(CHAT_ANSWER), "findings": [FINDING]}).encode()
SOUND = tone()
HEARD: dict[str, Any] = {
    "task": "transcribe",
    "language": "en",
    "duration": 0.5,
    "text": "Hi there.",
    "segments": [{"id": 0, "start": 0.0, "end": 0.5, "text": " Hi there."}],
    "words": [{"word": "Hi", "start": 0.0, "end": 0.2}],
}
ANSWERS = {
    Task.EMBED: EMBED_ANSWER,
    Task.DESCRIBE: DESCRIBE_ANSWER,
    Task.SPEAK: SOUND,
    Task.TRANSCRIBE: json.dumps(HEARD).encode(),
}


WRITES = frozenset(
    {
        Capability.TOOLS,
        Capability.SCHEMA,
        Capability.LOGPROBS,
        Capability.CHOICES,
        Capability.STOP,
        Capability.ECHO,
        Capability.SAMPLING,
    }
)


def _info(name: str, tasks: set[Task], aliases: tuple[str, ...] = (), **more: Any) -> ModelInfo:
    return ModelInfo(
        name=name, engine="fake", tasks=frozenset(tasks), aliases=aliases, created=1_700_000_000, context=2048, **more
    )


class FakeService:
    """Implements ``runtime.service.Service``. Each request goes to ``reply``, or waits in ``asked`` for the test."""

    def __init__(self) -> None:
        self.models: Mapping[str, ModelInfo] = {
            "llm": _info("llm", {Task.CHAT, Task.COMPLETE}, ("gpt-4o-mini",), capabilities=WRITES),
            "seer": _info("seer", {Task.CHAT, Task.DESCRIBE}, capabilities=WRITES),
            "labels": _info("labels", {Task.CHAT, Task.DESCRIBE}, needs_picture=True),
            "embeddings": _info("embeddings", {Task.EMBED}),
            "tts": _info(
                "tts",
                {Task.SPEAK},
                ("tts-1",),
                speech=Speech(24_000, slowest=0.5, fastest=2.0, voices=("default", "heart")),
                voices={"alloy": "heart", "boss": "default"},
            ),
            "stt": _info(
                "stt",
                {Task.TRANSCRIBE},
                ("whisper-1",),
                capabilities=frozenset({Capability.TRANSLATE, Capability.WORD_TIMES}),
            ),
        }
        self.asked: asyncio.Queue[tuple[ModelRequest, ResponseStream]] = asyncio.Queue()
        self.calls: list[ModelRequest] = []
        self.cancelled: list[int] = []
        self.reply: Callable[[ModelRequest, ResponseStream], None] = lambda call, answer: self.asked.put_nowait(
            (call, answer)
        )
        self.room: Callable[[str], bool] = lambda _model: True  # for another item of a batch
        self.now = HealthReport(True, "ok")
        self.told: list[tuple[AdminRequest, float]] = []
        self.outcome: AdminOutcome | Objection = AdminOutcome(Ending.DONE)

    def has_room(self, model: str) -> bool:
        return self.room(model)

    def submit(self, call: ModelRequest) -> ResponseStream:
        self.calls.append(call)
        answer = ResponseStream(len(self.calls), cancel=self.cancelled.append, grant_credit=lambda *_: None)
        self.reply(call, answer)
        return answer

    async def inspect(self, piece: Piece, client: str) -> bytes:
        del client
        return cleaned(piece, lambda _seconds: None)

    def status(self, listed: int = LISTED) -> dict[str, Any]:
        return {"schema": 1, "listed": listed}

    async def administer(self, request: AdminRequest, within: float) -> AdminOutcome | Objection:
        self.told.append((request, within))
        return self.outcome

    def standing(self, model: str) -> tuple[str, bool]:
        return "ready", model == "llm"

    def log_of(self, model: str) -> list[str]:
        return [f"{model} says hello", "and goodbye"]

    def health(self) -> HealthReport:
        return self.now

    def metrics(self) -> bytes:
        return b"cohabit_up 1\n"


@dataclass(frozen=True, slots=True)
class Served:
    """The runtime and a client of its app."""

    service: FakeService
    http: httpx2.AsyncClient


def at_once(*chunks: bytes) -> Callable[[ModelRequest, ResponseStream], None]:
    """A reply with all of the answer."""

    def reply(_call: ModelRequest, answer: ResponseStream) -> None:
        for chunk in chunks:
            answer.put(chunk)
        answer.complete()

    return reply


def as_asked(call: ModelRequest, answer: ResponseStream) -> None:
    """A reply that is right for the task."""
    body = json.loads(call.body)
    if call.task is Task.EMBED and body.get("encoding_format") == "base64":
        at_once(packed(*[(1.0, 0.5)] * len(body["input"])))(call, answer)
    else:
        at_once(ANSWERS.get(call.task, CHAT_ANSWER))(call, answer)


def packed(*vectors: Sequence[float]) -> bytes:
    """The answer of an embedding model that was asked for base64."""
    data = [
        {"index": index, "embedding": base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()}
        for index, vector in enumerate(vectors)
    ]
    return json.dumps({"data": data, "usage": TOKENS}).encode()


def failing(failure: ResponseFailed) -> Callable[[ModelRequest, ResponseStream], None]:
    """A reply that is a failure."""
    return lambda _call, answer: answer.fail(failure)


def rejected(reason: RejectReason, retry_after: float | None = None) -> ResponseFailed:
    return ResponseFailed(rejection=Rejection(reason, "what happened and what would do", retry_after))


def conforming(state: dict[str, Any]) -> Status:
    """What /admin/status gave. Raises if anything of it is not in the schema, or the other way round."""
    status: Status = msgspec.json.decode(json.dumps(state), type=Status)
    assert msgspec.to_builtins(status) == state
    return status


class Exchange:
    """One POST, spoken by hand: the client may read nothing, or leave whenever the test says."""

    def __init__(
        self,
        app: ASGIApp,
        path: str,
        body: Any,
        *,
        parts: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """``parts`` sends only so many of the body's two halves."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        half = len(raw) // 2
        self._to_app: asyncio.Queue[Message] = asyncio.Queue()
        for chunk, more in ((raw[:half], True), (raw[half:], False))[:parts]:
            self._to_app.put_nowait({"type": "http.request", "body": chunk, "more_body": more})
        self._readable = asyncio.Event()
        self._readable.set()
        self._news = asyncio.Condition()
        self.aborted = False
        self.sent: list[Message] = []
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in (headers or {}).items()],
            "client": ("192.0.2.1", 1234),
            "server": ("test", 80),
            "scheme": "http",
            "root_path": "",
            "http_version": "1.1",
            "extensions": {"cohabit.abort": self._abort},
        }
        self._task = asyncio.ensure_future(app(scope, self._to_app.get, self._send))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.body":
            await self._readable.wait()
        async with self._news:
            self.sent.append(message)
            self._news.notify_all()

    def _abort(self) -> None:
        self.aborted = True
        self.leave()

    def leave(self) -> None:
        """Hang up."""
        self._to_app.put_nowait({"type": "http.disconnect"})

    def stop_reading(self) -> None:
        self._readable.clear()

    def read_on(self) -> None:
        self._readable.set()

    async def until(self, messages: int) -> None:
        """Until the app has sent so many."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.sent) >= messages)

    async def ended(self) -> None:
        """Until the app has returned; raises what it raised."""
        await self._task

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.sent[1:]]

    @property
    def complete(self) -> bool:
        return not self.sent[-1].get("more_body", True)
