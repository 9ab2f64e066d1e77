"""``POST /batch``: many pieces of work at once, each with its own result or its own error.

All that is in order is queued under one batch, as far as its key and the queues of the models have places, and the
core lets a model finish its part before another one of the same batch takes its place: so each comes in once if
nothing else competes.

A batch may have thousands of items. Whatever is done for all of them is done in slices, and no item has a task of its
own: to make and to end so many would hold up everybody else.
"""

import asyncio
import itertools
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from cohabit.api.bodies import LARGE, NotJson, read_buffer
from cohabit.api.context import service_of
from cohabit.api.errors import ApiError, BadRequest, Refused
from cohabit.api.fields import apart, warnings
from cohabit.api.inference_tasks import Work, item_of, prepare
from cohabit.api.media.media_inputs import Media, attended, media_of
from cohabit.api.middleware.auth import limited, too_many
from cohabit.api.middleware.disconnects import CLIENT_GONE, Watch
from cohabit.api.openapi import only
from cohabit.api.routing import Responses, Router
from cohabit.api.streams import Stream, StreamTimeouts
from cohabit.api.submission import submit, timeout_of, warn
from cohabit.runtime.executors import PARSING
from cohabit.runtime.requests import ResponseStream
from cohabit.runtime.supervision import supervise
from cohabit.schemas.inference import MAX_ITEMS, BatchResult, InferenceRequest

NDJSON = "application/x-ndjson"
_RESULTS: Responses = {200: {"model": BatchResult, "content": {NDJSON: {"schema": {"type": "string"}}}}}
router = Router("inference", {**_RESULTS, **only(400, 413)})
_batches = itertools.count(1)

LOOK_EVERY = 0.1  # seconds between two looks for a place in a queue that others have filled
MAX_HELD = 256 << 20  # bytes of results of one batch in memory
BLOCK = 256 << 10  # bytes of small texts that are held together
_PIECE = 256 << 10  # bytes of results that are sent at once
_SLICE = (
    0.01  # seconds of the thread's processor time; a step of the loop may take 50 ms, and the last piece adds to this
)
_list = msgspec.json.Decoder(list[msgspec.Raw])

Item: TypeAlias = "tuple[Work, Spooled] | dict[str, Any]"
"""What is to be done, without its body, and the body; or the body of the error that says why it cannot be done."""


@router.post("/batch", body=InferenceRequest, max_items=MAX_ITEMS)
async def batch(request: Request) -> Response:
    """A list of what ``/inference`` takes, answered in its order; with ``Accept: application/x-ndjson`` a line as
    each is done, with its ``index``."""
    timeout_of(request)  # what is wrong with it is wrong with the batch, even if no item gets as far as the queue
    items = await attended(request, _prepare(media_of(request), await _items(request)))
    warning = warnings(*dict.fromkeys(item[0].warning for item in items if isinstance(item, tuple)))
    running = RunningBatch(request, items)
    timeouts: StreamTimeouts = request.app.state.timeouts
    if NDJSON in request.headers.get("accept", ""):
        lines = Lines(running, {"content-type": NDJSON}, timeouts)
        warn(lines, warning)
        return lines
    with Watch(request.receive, running) as watch:
        outcomes = {index: outcome async for index, outcome in running}
    if watch.gone or len(outcomes) < len(running):
        return Response(status_code=CLIENT_GONE)
    results = Results(running, outcomes, timeouts)
    warn(results, warning)
    return results


async def _items(request: Request) -> deque["Spooled"]:
    """Each as it was sent. Raises ApiError."""
    raw = await read_buffer(request)
    try:
        return await PARSING.run(_split, raw) if len(raw) > LARGE else _split(raw)
    except msgspec.ValidationError:
        raise _not_so_many() from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise NotJson from None


def _split(raw: bytearray) -> deque["Spooled"]:
    items = _list.decode(raw)
    if not 1 <= len(items) <= MAX_ITEMS:
        raise _not_so_many()
    spool = Spool()
    return deque(spool.put(bytes(item)) for item in items)


def _not_so_many() -> BadRequest:
    return BadRequest(f"the body must be a JSON array of 1 to {MAX_ITEMS} items")


async def _prepare(media: Media, items: deque["Spooled"]) -> deque[Item]:
    """Raises BadRequest if one is not JSON: then nothing of the body is to be trusted."""
    slices, spool = Slices(), Spool()
    prepared: deque[Item] = deque()
    while items:
        raw = items.popleft().bytes()
        try:
            work = await prepare(media, await apart(len(raw), partial(item_of, raw)))
            prepared.append((replace(work, body=b""), spool.put(work.body)))
        except NotJson:
            raise
        except ApiError as error:
            prepared.append(error.body)
        await slices.cut()
    return prepared


class Spool:
    """Holds thousands of small texts in blocks so large that the C library maps each of them by itself.

    What is freed goes back to the system at once then. Alone, small texts would lie between others that stay, and
    the memory of a batch would be kept when it has gone.
    """

    def __init__(self) -> None:
        self._block = bytearray()

    def put(self, text: bytes) -> "Spooled":
        """The text may be freed now."""
        if len(self._block) >= BLOCK:
            self._block = bytearray()
        start = len(self._block)
        self._block += text
        return Spooled(self._block, start, len(self._block))


class Spooled(NamedTuple):
    """Where a text is; its block is freed with the last text in it."""

    block: bytearray
    start: int
    stop: int

    def bytes(self) -> bytes:
        """The text."""
        with memoryview(self.block) as block:
            return bytes(block[self.start : self.stop])


class RunningBatch:
    """All answers of a batch, each given as it is done: an async iterator of (index, outcome as JSON)."""

    def __init__(self, request: Request, items: deque[Item]) -> None:
        """Begins to queue them."""
        self._count = self._left = len(items)
        self._items = items
        self._limited = limited(request)
        self._waiting: defaultdict[str, deque[tuple[int, Work, Spooled]]] = defaultdict(
            deque
        )  # by model, not queued yet
        self._extra = 0  # places that it has of its key beside the batch's own
        self._freed = asyncio.Event()  # something may be queued now that could not be before
        # By the id of an answer, until it has been taken whole. Plain dictionaries, since what each of thousands of
        # items holds by itself is looked through by every garbage collection.
        self._answers: dict[int, ResponseStream] = {}
        self._places: dict[int, int] = {}
        self._results: dict[int, Callable[[bytes], dict[str, Any]]] = {}
        self._parts: dict[int, bytearray] = {}
        self._answered: dict[int, None] = {}  # of which there is something to take
        self._news = asyncio.Event()
        self._outcomes: asyncio.Queue[tuple[int, bytes] | Exception | None] = asyncio.Queue()
        self._held = 0
        self._gone = False
        # Whether its client reads or not: else each answer would be held by itself, without a bound for all of them.
        self._task = supervise("answers of a batch", self._collect(), lambda _: self.cancel())
        self._queueing = supervise("queueing a batch", self._queue(request), lambda _: self.cancel())

    def __len__(self) -> int:
        """How many outcomes there will be."""
        return self._count

    async def _queue(self, request: Request) -> None:
        """Queue what can be, and leave nothing in ``_items``: of what is queued only that is held which it needs.

        Each item counts as a request of its key. What its key or the model's queue has no place for yet waits here.
        """
        service, number, slices = service_of(request), next(_batches), Slices()
        waiting = self._waiting
        counted = False
        for index in range(self._count):
            item = self._items.popleft()
            over = self._over() if isinstance(item, tuple) and counted else None  # the first is the request itself
            if over is not None:
                self._give(index, over)
            elif isinstance(item, tuple):
                counted = True
                waiting[item[0].model].append((index, *item))
            else:
                self._give(index, item)
            await slices.cut()
        while waiting and not self._gone:
            self._freed.clear()
            for model, line in list(waiting.items()):
                while line and not self._gone and service.has_room(model) and self._has_place():
                    index, work, body = line.popleft()
                    answer = submit(request, model, work.task, body.bytes(), blobs=work.blobs, batch=number)
                    self._answers[answer.id] = answer
                    self._places[answer.id] = index
                    self._results[answer.id] = work.result
                    answer.listen(self._note)
                    await slices.cut()
                if not line:
                    del waiting[model]
            if waiting:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY):
                        await self._freed.wait()

    def _over(self) -> dict[str, Any] | None:
        """The error for an item that is one too many for its key in this minute."""
        over = None if self._limited is None else self._limited.limits.count(self._limited.key)
        return None if over is None else too_many(over).body

    def _has_place(self) -> bool:
        """Whether its key may have another item in the queue now; the batch itself has one place."""
        if self._limited is None or len(self._answers) < 1 + self._extra:
            return True
        if not self._limited.limits.place(self._limited.key):
            return False
        self._extra += 1
        return True

    def _give_back(self) -> None:
        """An item has its outcome: its place is free."""
        self._freed.set()
        if self._extra:
            assert self._limited is not None, "only places of a key are taken"
            self._limited.limits.leave(self._limited.key)
            self._extra -= 1

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        """As each is done, until all are or it is cancelled."""
        slices = Slices()
        for _ in range(self._count):
            outcome = await self._outcomes.get()
            if outcome is None:
                return  # its client has gone
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome
            await slices.cut()

    def cancel(self) -> None:
        """The client is gone. What is queued is taken back in slices too."""
        if not self._gone:
            self._gone = True
            self._outcomes.put_nowait(None)
            self._task.cancel()
            self._queueing.cancel()
            # The cancelled tasks and this hold each other until the garbage collector comes: what is large goes now.
            self._items.clear()
            for line in self._waiting.values():
                line.clear()
            self._task = supervise("taking back a batch", self._take_back(), lambda _: None)

    def sent(self, outcome: bytes) -> None:
        """It need not be held any longer."""
        self._held -= len(outcome)

    def _note(self, answer: int) -> None:
        self._answered[answer] = None
        self._news.set()

    async def _take_back(self) -> None:
        slices = Slices()
        while self._answers:
            _, answer = self._answers.popitem()
            answer.cancel()
            self._give_back()
            await slices.cut()

    async def _collect(self) -> None:
        slices = Slices()
        try:
            while self._left:
                await self._news.wait()
                self._news.clear()
                answered, self._answered = self._answered, {}
                for each in answered:
                    answer = self._answers.get(each)
                    if answer is not None:
                        await self._take(answer)
                    await slices.cut()
        except Exception as error:  # of a result that is none; whoever reads the outcomes is told
            self._outcomes.put_nowait(error)

    async def _take(self, answer: ResponseStream) -> None:
        """Take what there is of an answer, and give its outcome if that was all."""
        if answer.failure is not None:
            outcome = Refused(answer.failure).body
        elif await self._whole(answer):
            outcome = {"result": self._results[answer.id](bytes(self._parts[answer.id]))}
        elif self._held <= MAX_HELD:
            return
        else:
            answer.cancel()
            message = f"the results of this batch are larger than {MAX_HELD >> 20} MiB; send it in parts"
            outcome = ApiError(413, message, code="batch_too_large").body
        del self._answers[answer.id], self._results[answer.id]
        self._give_back()
        self._held -= len(self._parts.pop(answer.id, b""))
        self._give(self._places.pop(answer.id), outcome)

    async def _whole(self, answer: ResponseStream) -> bool:
        part = self._parts.setdefault(answer.id, bytearray())
        while answer.ready and self._held <= MAX_HELD:
            chunks = await answer.some()
            if not chunks:
                return True
            for chunk in chunks:
                part += chunk
                self._held += len(chunk)
        return False

    def _give(self, index: int, outcome: dict[str, Any]) -> None:
        encoded = msgspec.json.encode(outcome)
        self._held += len(encoded)
        self._outcomes.put_nowait((index, encoded))
        self._left -= 1
        if not self._left:
            self._news.set()


class Lines(Stream):
    """One line of JSON for each item."""

    def __init__(self, running: RunningBatch, headers: dict[str, str], timeouts: StreamTimeouts) -> None:
        """``timeouts`` says how long a client may read nothing."""
        super().__init__(running, headers, timeouts)
        self._running = running

    async def _send_all(self) -> None:
        async for index, outcome in self._running:
            await self._push(b'{"index":%d,%b\n' % (index, outcome.removeprefix(b"{")))
            self._running.sent(outcome)
        await self._push(b"", more=False)


class Results(Stream):
    """All outcomes in the order of the items, sent in pieces: together they may have hundreds of MiB."""

    media_type = "application/json"

    def __init__(self, running: RunningBatch, outcomes: Mapping[int, bytes], timeouts: StreamTimeouts) -> None:
        """``timeouts`` says how long a client may read nothing."""
        super().__init__(running, {}, timeouts)
        self._parts = [b'{"results":[', outcomes[0]]
        for index in range(1, len(outcomes)):
            self._parts += (b",", outcomes[index])
        self._parts.append(b"]}")
        self.headers["content-length"] = str(sum(map(len, self._parts)))

    async def _send_all(self) -> None:
        piece = bytearray()
        for part in self._parts:
            piece += part
            if len(piece) >= _PIECE:
                await self._push(bytes(piece))
                piece.clear()
        await self._push(bytes(piece), more=False)


class Slices:
    """Long work in the event loop, cut into slices, so that others get their turn between two of them."""

    def __init__(self) -> None:
        self._began = time.thread_time()

    async def cut(self) -> None:
        """Interrupt the work here, if this slice has lasted for long enough."""
        if time.thread_time() - self._began >= _SLICE:
            await asyncio.sleep(0)
            self._began = time.thread_time()
