"""A request on its way through the runtime, as the api sees it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cohabit.core.commands import Rejection, RejectReason
from cohabit.protocol.engine import EngineRequest, ItemError
from cohabit.protocol.messages import CREDIT_BYTES, CREDIT_CHUNKS
from cohabit.protocol.tasks import Task

if TYPE_CHECKING:
    from cohabit.runtime.workers.handle import WorkerHandle

SERVER_FAILED = Rejection(
    RejectReason.SERVER_FAILED, "the server found a bug of its own and exits; try again once it is back", 10.0
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """What the api asks for, validated. ``model`` is a config name, never an alias."""

    model: str
    task: Task
    body: bytes  # the OpenAI request body of the task
    client: str  # API key's name or peer address: whom fairness is between
    timeout: float | None = None  # seconds the client allows for waiting and running together
    blobs: dict[str, bytes] = field(default_factory=dict)
    background: bool = False  # nobody waits for it now: it gives way to everything else
    batch: int | None = None  # what came in one /batch has one number

    def work(self, request: int) -> EngineRequest:
        """What its worker gets, under the request's id."""
        return EngineRequest(request, self.task, self.body, self.blobs)


class ResponseFailed(Exception):
    """A request ended without (the rest of) its answer.

    Exactly one of ``rejection`` (the core's reason) and ``error`` (the engine's words on this item) is set.
    """

    def __init__(self, *, rejection: Rejection | None = None, error: ItemError | None = None) -> None:
        """Keep the reason; the text is for logs and names no input."""
        super().__init__(rejection.reason if rejection else error.code if error else "failed")
        self.rejection = rejection
        self.error = error


class ResponseStream:
    """The stream of one response: an async iterator of its chunks, as bytes.

    It is bounded by the link's credits: the worker sends no more than ``grant_credit`` has given back. Iterating
    raises ResponseFailed where the response ends in an error. ``cancel`` may be called at any time, more than once.

    The api reads it; ``inflight.InFlightRequests`` fills it, and keeps in it what it knows of the request.
    """

    def __init__(
        self, request_id: int, *, cancel: Callable[[int], None], grant_credit: Callable[[int, int, int], None]
    ) -> None:
        """``grant_credit(id, chunks, bytes)`` is called as the client takes chunks."""
        self.id = request_id
        self.arrived = time.monotonic()
        self.dispatched: float | None = None
        self.finished: float | None = None  # when the engine was done; chunks may still be on their way
        self.load_seconds = 0.0  # part of the wait during which the model was being brought in
        self.sent = False  # the client has a part of it, so that it cannot be run again
        self.work: EngineRequest | None = None
        self.worker: WorkerHandle | None = None
        self.error: ItemError | None = None  # of its last run
        self.ended = False
        self._cancel = cancel
        self._grant_credit = grant_credit
        self._chunks: deque[bytes] = deque()
        self._failure: ResponseFailed | None = None
        self._complete = False
        self._waiter: asyncio.Future[None] | None = None
        self._heard: Callable[[int], None] | None = None
        self._taken_chunks = self._taken_bytes = 0  # and not given back yet

    # for the api

    def __aiter__(self) -> "ResponseStream":
        """Chunks in order."""
        return self

    async def __anext__(self) -> bytes:
        """Take the next chunk; what the client took can no longer be retried."""
        await self._something()
        if not self._chunks:
            self._end()
            raise StopAsyncIteration
        chunk = self._chunks.popleft()
        self._give_back(1, len(chunk))
        return chunk

    @property
    def ready(self) -> bool:
        """Whether there is something to take without waiting: chunks, the end or a failure."""
        return bool(self._chunks) or self._complete or self._failure is not None

    @property
    def failure(self) -> ResponseFailed | None:
        """What it ends in, after the chunks that are here; to look costs less than to have it raised."""
        return self._failure

    async def some(self) -> list[bytes]:
        """Take every chunk that is here, waiting for at least one; nothing at the end. Raises ResponseFailed."""
        await self._something()
        if not self._chunks:
            self._end()
            return []
        chunks = list(self._chunks)
        self._chunks.clear()
        self._give_back(len(chunks), sum(map(len, chunks)))
        return chunks

    def listen(self, callback: Callable[[int], None]) -> None:
        """Call ``heard(id)`` whenever there is something to take, at once if there is; for who has many answers."""
        self._heard = callback
        if self.ready:
            callback(self.id)

    async def started(self, within: float | None = None) -> bool:
        """True once there is a chunk, an end or a failure to take; False after ``within`` seconds without."""
        if self.ready:
            return True
        try:
            async with asyncio.timeout(within):
                await self._something()
        except TimeoutError:
            return False
        return True

    def raise_early(self) -> None:
        """Raises ResponseFailed if it has failed before the first chunk, so that the failure can have a status."""
        if self._failure is not None and not self._chunks:
            self._end()

    def cancel(self) -> None:
        """The client is gone. Nothing to do once the answer has ended."""
        if not self.ended:
            self.ended = True
            self._cancel(self.id)

    async def _something(self) -> None:
        while not self.ready:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    def _give_back(self, chunks: int, size: int) -> None:
        """Credit, once half of it is used: the rest keeps the worker going, and a short answer needs no message."""
        self.sent = True
        self._taken_chunks += chunks
        self._taken_bytes += size
        if self._taken_chunks >= CREDIT_CHUNKS // 2 or self._taken_bytes >= CREDIT_BYTES // 2:
            self._grant_credit(self.id, self._taken_chunks, self._taken_bytes)
            self._taken_chunks = self._taken_bytes = 0

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self._heard is not None:
            self._heard(self.id)

    def _end(self) -> None:
        self.ended = True
        if self._failure is not None:
            raise self._failure

    # for the runtime

    def put(self, data: bytes) -> None:
        """A chunk came from the worker."""
        self._chunks.append(data)
        self._wake()

    def complete(self) -> None:
        """Nothing more comes."""
        self._complete = True
        self._wake()

    def fail(self, failure: ResponseFailed) -> None:
        """The answer ends in an error, after the chunks that are already here."""
        self._failure = failure
        self._wake()

    def restart(self) -> None:
        """Forget what an earlier, failed run left and nobody took."""
        self._chunks.clear()
