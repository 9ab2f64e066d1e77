"""What the tests of batches drive: an app, a clock, and everything between a file and its answers."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.types import Receive, Scope, Send

from cohabit.access.keys import Principal
from cohabit.batches import files, records
from cohabit.batches.asgi_client import AsgiClient
from cohabit.batches.calendar import SETTLED, Calendar
from cohabit.batches.database import Database
from cohabit.batches.leader import Leader
from cohabit.batches.run_context import RunContext
from cohabit.batches.runner import BatchRunner
from cohabit.schemas.batches import ENDED, Batch, BatchRequest
from cohabit.schemas.files import FileUpload
from harness import PATIENCE

NOW = 1_800_000_000.0
ANN = Principal("ann", sees_all=False)
MONTH = 30 * 86400.0


class Answering:
    """An ASGI app that answers with what ``reply`` says, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Scope, Any]] = []
        self.reply: Callable[[Any], tuple[int, Any]] = lambda body: (200, {"echo": body["input"]})
        self.headers: dict[str, str] = {}
        self.gate: asyncio.Event | None = None  # answers wait for it
        self.cancelled = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        body = json.loads(message["body"])
        self.asked.append((scope, body))
        try:
            if self.gate is not None:
                await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        status, answer = self.reply(body)
        headers = [(b"x-request-id", b"req-1"), *((k.encode(), v.encode()) for k, v in self.headers.items())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def inputs(self) -> list[Any]:
        """What the bodies asked for, in order."""
        return [body["input"] for _, body in self.asked]


def line(number: int, **body: Any) -> str:
    """A line of an input."""
    asked = {"model": "embeddings", "input": number, **body}
    return json.dumps({"custom_id": f"c{number}", "method": "POST", "url": "/v1/embeddings", "body": asked})


async def eventually(what: Callable[[], Awaitable[object]]) -> None:
    """Poll until something is so: what is looked at is a database, which tells nobody."""
    async with asyncio.timeout(PATIENCE):
        while not await what():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.002)


class Bench:
    """A runner whose parts can be looked at, and which can be started again as after a crash."""

    def __init__(self, database: Database, app: Answering) -> None:
        self.database = database
        self.app = app
        self.now = NOW
        self.passed = 0.0
        self.settled = True  # the clock has been right for long enough when it starts
        self.known: Mapping[str, Mapping[str, Any]] = {"ann": {"key": "ann's"}, "": {}}
        self.most_lines = 1000
        self.runner: BatchRunner | None = None
        self.task: asyncio.Task[None] | None = None

    async def send(self, text: str | bytes, who: Principal = ANN) -> str:
        """The id of a file of this text."""
        data = text.encode() if isinstance(text, str) else text
        file_id = await self.database.write(files.begin, who.name, "in.jsonl", self.now)
        for number, begin in enumerate(range(0, len(data), files.PIECE)):
            piece = data[begin : begin + files.PIECE]
            await self.database.write(files.append, file_id, number, piece)
        await self.database.write(files.seal, file_id, FileUpload(purpose="batch"), self.now, MONTH)
        return file_id

    async def create(self, text: str | bytes, who: Principal = ANN, **fields: Any) -> str:
        """The id of a batch of these lines, which is not looked at before ``start``."""
        file_id = await self.send(text, who)
        asked = BatchRequest(input_file_id=file_id, endpoint="/v1/embeddings", **fields)
        made = await self.database.write(records.create, who, asked, self.now, MONTH)
        if self.runner is not None:
            self.runner.poke()
        return made.id

    def start(self) -> None:
        """Run what there is."""
        if self.settled:
            self.now -= SETTLED
        calendar = Calendar(lambda: self.now, lambda: self.passed)
        if self.settled:
            self.later(SETTLED)
            assert calendar.surely() == self.now
        context = RunContext(
            self.database,
            AsgiClient(self.app),
            resolve=lambda name: name if name in {"embeddings", "llm"} else None,
            identify=self.known.get,
            most_lines=self.most_lines,
            calendar=calendar,
        )
        self.runner = BatchRunner(context, Leader(self.database))
        self.task = asyncio.create_task(self.runner.run())

    def later(self, seconds: float) -> None:
        """Time passes, by both clocks."""
        self.now += seconds
        self.passed += seconds

    async def crash(self) -> None:
        """End it at once, with nothing written down any more."""
        assert self.task is not None
        assert self.runner is not None
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.runner._leader.resign()  # as the system does for a process that died
        self.task = self.runner = None

    async def stop(self) -> None:
        """As at the end of a server."""
        if self.runner is not None and self.task is not None:
            self.runner.halt()
            if self.app.gate is not None:
                self.app.gate.set()
            await self.task
            self.runner = self.task = None

    async def get(self, batch_id: str) -> Batch:
        return await self.database.read(records.get, None, batch_id)

    async def until(self, what: Callable[[Batch], bool], batch_id: str) -> Batch:
        """Once something is so of a batch."""
        found = await self.get(batch_id)

        async def so() -> bool:
            nonlocal found
            found = await self.get(batch_id)
            return what(found)

        await eventually(so)
        return found

    async def ended(self, batch_id: str) -> Batch:
        return await self.until(lambda batch: batch.status in ENDED, batch_id)

    async def text(self, file_id: str | None) -> list[dict[str, Any]]:
        """The lines of a file."""
        assert file_id is not None
        parts: list[bytes] = []
        place = -1
        while True:
            place, piece = await self.database.read(files.piece, None, file_id, place)
            if not piece:
                return [json.loads(each) for each in b"".join(parts).splitlines()]
            parts.append(piece)

    async def answers(self, batch: Batch) -> dict[str, Any]:
        """By custom_id, of all that were answered."""
        return {each["custom_id"]: each["response"]["body"] for each in await self.text(batch.output_file_id)}

    async def errors(self, batch: Batch) -> dict[str | None, Any]:
        """By custom_id, of all that were not: the error, or the response."""
        return {each["custom_id"]: each["error"] or each["response"] for each in await self.text(batch.error_file_id)}
