"""``POST /batch``: many pieces of work at once, each with its own result or its own error.

All that is in order is queued together under one batch, and the core lets a model finish its part before another
one of the same batch takes its place: so each comes in once if nothing else competes.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response

from cohabit.api.addresses import Fetcher, fetcher_of
from cohabit.api.answers import submit, timeout_of
from cohabit.api.bodies import decoded, parsed, read
from cohabit.api.disconnects import CLIENT_GONE, Watch
from cohabit.api.documents import Responses, list_of, only
from cohabit.api.errors import ApiError, BadRequest, Refused
from cohabit.api.models import service_of
from cohabit.api.routes import Direct
from cohabit.api.streams import Pace, Stream
from cohabit.api.work import Work, understood
from cohabit.openai.inference import MOST_ITEMS, BatchResult, InferenceRequest
from cohabit.runtime.requests import Answer, CallFailed

NDJSON = "application/x-ndjson"
_RESULTS: Responses = {200: {"model": BatchResult, "content": {NDJSON: {"schema": {"type": "string"}}}}}
router = APIRouter(route_class=Direct, tags=["inference"], responses={**_RESULTS, **only(400, 413)})
_batches = itertools.count(1)

MOST_HELD = 256 << 20  # bytes of results of one batch in memory


@router.post("/batch", openapi_extra=list_of(InferenceRequest, MOST_ITEMS))
async def batch(request: Request) -> Response:
    """A list of what ``/inference`` takes, answered in its order; with ``Accept: application/x-ndjson`` a line as
    each is done, with its ``index``."""
    timeout_of(request)  # what is wrong with it is wrong with the batch, even if no item gets as far as the queue
    items = decoded(await read(request))
    if not isinstance(items, list) or not 1 <= len(items) <= MOST_ITEMS:
        raise BadRequest(f"the body must be a JSON array of 1 to {MOST_ITEMS} items")
    fetcher = fetcher_of(request)
    understandings = [await _understood(request, fetcher, item) for item in items]
    running = Running(request, understandings)
    if NDJSON in request.headers.get("accept", ""):
        pace: Pace = request.app.state.pace
        return Lines(running, {"content-type": NDJSON}, pace)
    with Watch(request.receive, running) as watch:
        outcomes = dict([outcome async for outcome in running])
    if watch.gone:
        return Response(status_code=CLIENT_GONE)
    results = {"results": [msgspec.Raw(outcomes[index]) for index in range(len(items))]}
    return Response(msgspec.json.encode(results), media_type="application/json")


async def _understood(request: Request, fetcher: Fetcher, item: Any) -> Work | ApiError:
    try:
        return await understood(service_of(request), fetcher, parsed(InferenceRequest, item))
    except ApiError as error:
        return error


class Running:
    """All answers of a batch, each given as it is done: an async iterator of (index, outcome as JSON)."""

    def __init__(self, request: Request, items: Sequence[Work | ApiError]) -> None:
        """Queues what can be."""
        number = next(_batches)
        self._items = items
        self._answers: dict[int, Answer] = {
            index: submit(request, item.model, item.task, item.body, blobs=item.blobs, batch=number)
            for index, item in enumerate(items)
            if isinstance(item, Work)
        }
        self._held = 0
        self._tasks = {asyncio.ensure_future(self._outcome(index)) for index in range(len(items))}

    async def __aiter__(self) -> AsyncIterator[tuple[int, bytes]]:
        """As each is done, until all are or it is cancelled."""
        for task in asyncio.as_completed(self._tasks):
            try:
                yield await task
            except asyncio.CancelledError:
                if asyncio.current_task().cancelling():  # type: ignore[union-attr]  # a coroutine runs in a task
                    raise
                return  # its client has gone

    def cancel(self) -> None:
        """The client is gone."""
        for answer in self._answers.values():
            answer.cancel()
        for task in self._tasks:
            task.cancel()

    def sent(self, outcome: bytes) -> None:
        """It need not be held any longer."""
        self._held -= len(outcome)

    async def _outcome(self, index: int) -> tuple[int, bytes]:
        item = self._items[index]
        try:
            if isinstance(item, ApiError):
                raise item
            outcome = {"result": item.result(await self._whole(self._answers[index]))}
        except CallFailed as failure:
            outcome = Refused(failure).body
        except ApiError as error:
            outcome = error.body
        encoded = msgspec.json.encode(outcome)
        self._held += len(encoded)
        return index, encoded

    async def _whole(self, answer: Answer) -> bytes:
        """Raises CallFailed, ApiError if with it more would be held than may be."""
        chunks = bytearray()
        async for chunk in answer:
            chunks += chunk
            if self._held + len(chunks) > MOST_HELD:
                answer.cancel()
                message = f"the results of this batch are larger than {MOST_HELD >> 20} MiB; send it in parts"
                raise ApiError(413, message, code="batch_too_large")
        return bytes(chunks)


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
