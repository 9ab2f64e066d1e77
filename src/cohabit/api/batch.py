"""``POST /batch``: many pieces of work at once, each with its own result or its own error.

All that is in order is queued together under one batch, and the core lets a model finish its part before another
one of the same batch takes its place: so each comes in once if nothing else competes.

A batch may have thousands of items. Whatever is done for all of them is done in slices, and no item has a task of its
own: to make and to end so many would hold up everybody else.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial

import msgspec
from fastapi import APIRouter, Request, Response

from cohabit.api.addresses import fetcher_of
from cohabit.api.answers import submit, timeout_of
from cohabit.api.bodies import decoded, not_json, parsed, read
from cohabit.api.disconnects import CLIENT_GONE, Watch
from cohabit.api.documents import Responses, list_of, only
from cohabit.api.errors import ApiError, BadRequest, Refused
from cohabit.api.models import service_of
from cohabit.api.routes import Direct
from cohabit.api.slices import Slices
from cohabit.api.streams import Pace, Stream
from cohabit.api.work import Work, understood
from cohabit.openai.inference import MOST_ITEMS, BatchResult, InferenceRequest
from cohabit.runtime.executors import PARSING
from cohabit.runtime.requests import Answer, CallFailed
from cohabit.runtime.supervision import supervise

NDJSON = "application/x-ndjson"
_RESULTS: Responses = {200: {"model": BatchResult, "content": {NDJSON: {"schema": {"type": "string"}}}}}
router = APIRouter(route_class=Direct, tags=["inference"], responses={**_RESULTS, **only(400, 413)})
_batches = itertools.count(1)

MOST_HELD = 256 << 20  # bytes of results of one batch in memory
_LARGE = 64 << 10  # bytes of JSON that are read in a thread
_PIECE = 256 << 10  # bytes of results that are sent at once
_list = msgspec.json.Decoder(list[msgspec.Raw])


@router.post("/batch", openapi_extra=list_of(InferenceRequest, MOST_ITEMS))
async def batch(request: Request) -> Response:
    """A list of what ``/inference`` takes, answered in its order; with ``Accept: application/x-ndjson`` a line as
    each is done, with its ``index``."""
    timeout_of(request)  # what is wrong with it is wrong with the batch, even if no item gets as far as the queue
    running = Running(await _understood(request, await _items(request)))
    with Watch(request.receive, running) as watch:
        await running.queue(request)
    pace: Pace = request.app.state.pace
    if NDJSON in request.headers.get("accept", "") and not watch.gone:
        return Lines(running, {"content-type": NDJSON}, pace)
    with Watch(request.receive, running) as watch:
        outcomes = {index: outcome async for index, outcome in running}
    if watch.gone or len(outcomes) < len(running):
        return Response(status_code=CLIENT_GONE)
    return Results(running, outcomes, pace)


async def _items(request: Request) -> list[msgspec.Raw]:
    """Each as it was sent. Raises ApiError."""
    raw = await read(request)
    try:
        items = await PARSING.run(_list.decode, raw) if len(raw) > _LARGE else _list.decode(raw)
    except msgspec.ValidationError:
        items = []
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise not_json() from None
    if not 1 <= len(items) <= MOST_ITEMS:
        raise BadRequest(f"the body must be a JSON array of 1 to {MOST_ITEMS} items")
    return items


async def _understood(request: Request, items: Sequence[msgspec.Raw]) -> list[Work | ApiError]:
    """Raises BadRequest if one is not JSON: then nothing of the body is to be trusted."""
    service, fetcher, slices = service_of(request), fetcher_of(request), Slices()
    found: list[Work | ApiError] = []
    for raw in items:
        item = await PARSING.run(decoded, bytes(raw)) if len(raw) > _LARGE else decoded(bytes(raw))
        try:
            found.append(await understood(service, fetcher, parsed(InferenceRequest, item)))
        except ApiError as error:
            found.append(error)
        await slices.cut()
    return found


class Running:
    """All answers of a batch, each given as it is done: an async iterator of (index, outcome as JSON)."""

    def __init__(self, items: Sequence[Work | ApiError]) -> None:
        """Nothing is queued yet."""
        self._items = items
        self._answers: dict[int, Answer] = {}  # that have not been taken whole
        self._parts: dict[int, bytearray] = {}
        self._heard: dict[int, None] = {}  # of which there is something to take
        self._news = asyncio.Event()
        self._outcomes: asyncio.Queue[tuple[int, bytes] | Exception | None] = asyncio.Queue()
        self._held = 0
        self._gone = False
        # Whether its client reads or not: else each answer would be held by itself, without a bound for all of them.
        self._task = supervise("answers of a batch", self._collect(), lambda _: self.cancel())

    def __len__(self) -> int:
        """How many outcomes there will be."""
        return len(self._items)

    async def queue(self, request: Request) -> None:
        """Queue what can be."""
        number, slices = next(_batches), Slices()
        for index, item in enumerate(self._items):
            if self._gone:
                return
            if isinstance(item, Work):
                answer = submit(request, item.model, item.task, item.body, blobs=item.blobs, batch=number)
                self._answers[index] = answer
                answer.listen(partial(self._hear, index))
            else:
                self._hear(index)
            await slices.cut()

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        """As each is done, until all are or it is cancelled."""
        slices = Slices()
        for _ in self._items:
            found = await self._outcomes.get()
            if found is None:
                return  # its client has gone
            if isinstance(found, Exception):
                raise found
            yield found
            await slices.cut()

    def cancel(self) -> None:
        """The client is gone. What is queued is taken back in slices too."""
        if not self._gone:
            self._gone = True
            self._outcomes.put_nowait(None)
            self._task.cancel()
            self._task = supervise("taking back a batch", self._take_back(), lambda _: None)

    def sent(self, outcome: bytes) -> None:
        """It need not be held any longer."""
        self._held -= len(outcome)

    def _hear(self, index: int) -> None:
        self._heard[index] = None
        self._news.set()

    async def _take_back(self) -> None:
        slices = Slices()
        while self._answers:
            _, answer = self._answers.popitem()
            answer.cancel()
            await slices.cut()

    async def _collect(self) -> None:
        left, slices = len(self._items), Slices()
        try:
            while left:
                await self._news.wait()
                self._news.clear()
                heard, self._heard = self._heard, {}
                for index in heard:
                    outcome = await self._outcome(index)
                    if outcome is not None:
                        left -= 1
                        self._outcomes.put_nowait((index, outcome))
                    await slices.cut()
        except Exception as error:  # of a result that is none; whoever reads the outcomes is told
            self._outcomes.put_nowait(error)

    async def _outcome(self, index: int) -> bytes | None:
        """None if it is not whole yet."""
        item = self._items[index]
        try:
            if isinstance(item, ApiError):
                raise item
            whole = await self._whole(index)
            if whole is None:
                return None
            outcome = {"result": item.result(whole)}
        except CallFailed as failure:
            outcome = Refused(failure).body
        except ApiError as error:
            outcome = error.body
        self._answers.pop(index, None)
        encoded = msgspec.json.encode(outcome)
        self._held += len(encoded) - len(self._parts.pop(index, b""))
        return encoded

    async def _whole(self, index: int) -> bytes | None:
        """Raises CallFailed, ApiError if with it more would be held than may be."""
        answer = self._answers.get(index)
        if answer is None:
            return None  # its outcome is known
        part = self._parts.setdefault(index, bytearray())
        while answer.ready:
            chunks = await answer.some()
            if not chunks:
                return bytes(part)
            for chunk in chunks:
                part += chunk
                self._held += len(chunk)
            if self._held > MOST_HELD:
                answer.cancel()
                message = f"the results of this batch are larger than {MOST_HELD >> 20} MiB; send it in parts"
                raise ApiError(413, message, code="batch_too_large")
        return None


class Lines(Stream):
    """One line of JSON for each item."""

    def __init__(self, running: Running, headers: dict[str, str], pace: Pace) -> None:
        """``pace`` says how long a client may read nothing."""
        super().__init__(running, headers, pace)
        self._running = running

    async def _send_all(self) -> None:
        async for index, outcome in self._running:
            await self._push(b'{"index":%d,%b\n' % (index, outcome.removeprefix(b"{")))
            self._running.sent(outcome)
        await self._push(b"", more=False)


class Results(Stream):
    """All outcomes in the order of the items, sent in pieces: together they may have hundreds of MiB."""

    media_type = "application/json"

    def __init__(self, running: Running, outcomes: Mapping[int, bytes], pace: Pace) -> None:
        """``pace`` says how long a client may read nothing."""
        super().__init__(running, {}, pace)
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
