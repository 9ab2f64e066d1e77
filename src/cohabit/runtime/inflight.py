"""Accepted requests and their answers on the way: given to workers, taken back from them, ended."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cohabit.core.commands import Rejection, RejectReason
from cohabit.core.events import Event, RequestFailed, RequestFinished
from cohabit.protocol import messages
from cohabit.protocol.engine import Chunk, EngineRequest, ItemError
from cohabit.runtime.requests import Answer, Call, CallFailed

if TYPE_CHECKING:
    from cohabit.runtime.workers.supervisor import WorkerHandle


@dataclass(slots=True)
class InFlightRequest:
    """A request whose answer has not ended."""

    call: Call
    answer: Answer
    worker: int | None = None
    error: ItemError | None = None
    finished: bool = False  # the engine is done; chunks may still be on their way


class Watcher(Protocol):
    """Is told what does not pass the core."""

    def answered(self, model: str, finished: messages.Finished) -> None:
        """A worker is done with a request."""


class InFlightRequests:
    """What is done about requests. ``open`` has every one whose answer has not ended."""

    def __init__(
        self,
        workers: "Mapping[int, WorkerHandle]",
        *,
        post: Callable[[Event], None],
        watcher: Watcher,
    ) -> None:
        """Before the first request."""
        self.open: dict[int, InFlightRequest] = {}
        self.ended = 0
        """Requests so far that a worker is done with. To refuse one is no progress."""
        self._workers = workers
        self._post = post
        self._watcher = watcher

    # for the clients

    def forget(self, request: int) -> None:
        """Its client is gone: whatever still comes of the answer goes nowhere."""
        entry = self.open.pop(request, None)
        if entry is not None and entry.finished and entry.worker is not None:
            self._send(entry.worker, messages.CancelRun(request))  # lets the worker drop what it keeps for it

    def taken(self, request: int, chunks: int, size: int) -> None:
        """A client has taken chunks: its worker may send as much more."""
        entry = self.open.get(request)
        if entry is not None and entry.worker is not None:
            self._send(entry.worker, messages.Credit(request, chunks, size))

    # for the core

    def dispatch(self, worker_id: int, requests: tuple[int, ...]) -> None:
        """Give a worker a batch."""
        worker = self._workers[worker_id]
        batch = []
        now = time.monotonic()
        for request in requests:
            entry = self.open.get(request)
            if entry is None:  # its client left in this very turn of the loop; RequestCancelled is on its way
                self._post(RequestFinished(request, worker_id, 0.0, 0))
                continue
            entry.worker = worker_id
            entry.answer.restart()
            entry.answer.dispatched = now
            entry.answer.load_seconds = worker.coming_in(since=entry.answer.arrived)
            batch.append(EngineRequest(request, entry.call.task, entry.call.body, entry.call.blobs))
        if not batch:
            return
        self._run(worker_id, worker, batch)

    def _run(self, worker_id: int, worker: "WorkerHandle", batch: list[EngineRequest]) -> None:
        """Send it. What is too large for one message goes one by one, so that each fails by itself."""
        try:
            worker.send(messages.RunBatch(batch))
        except messages.FrameTooLarge:
            if len(batch) > 1:
                for item in batch:
                    self._run(worker_id, worker, [item])
                return
            (item,) = batch
            error = ItemError(item.id, "the request is too large", status=413, code="request_too_large")
            self.open[item.id].error = error
            self._post(RequestFailed(item.id, worker_id, sent=False))

    def cancel(self, request: int, worker_id: int) -> None:
        """Stop a running request."""
        self._send(worker_id, messages.CancelRun(request))

    def reject(self, request: int, rejection: Rejection) -> None:
        """End a request without (the rest of) its answer."""
        entry = self.open.pop(request, None)
        if entry is None:
            return
        entry.answer.finished = time.monotonic()
        if rejection.reason is RejectReason.ENGINE and entry.error is not None:
            entry.answer.fail(CallFailed(error=entry.error))
        else:
            entry.answer.fail(CallFailed(rejection=rejection))

    def reject_all(self, rejection: Rejection) -> None:
        """End every request whose answer has not ended."""
        for request in list(self.open):
            self.reject(request, rejection)

    # from the workers

    def said(self, worker_id: int, model: str, message: Chunk | messages.Finished | messages.End) -> None:
        """A worker has something of an answer."""
        match message:
            case Chunk(request, data):
                entry = self.open.get(request)
                if entry is not None:
                    entry.answer.put(data)
            case messages.End(request):
                entry = self.open.pop(request, None)
                if entry is not None:
                    entry.answer.complete()
            case messages.Finished():
                self._finished(worker_id, model, message)

    def lost(self, worker_id: int, model: str) -> frozenset[int]:
        """A worker is gone. Answers that were only to be sent end; of the others, which clients have a part of."""
        mine = {request: entry for request, entry in self.open.items() if entry.worker == worker_id}
        for request, entry in mine.items():
            entry.worker = None
            if entry.finished:  # out of the core's hands; the rest of its answer died with the worker
                why = f"the worker of {model} died before all of the answer was sent"
                self.reject(request, Rejection(RejectReason.WORKER_DIED, why, 1.0))
        return frozenset(request for request, entry in mine.items() if entry.answer.sent)

    def _finished(self, worker_id: int, model: str, finished: messages.Finished) -> None:
        entry = self.open.get(finished.id)
        error = finished.error
        self.ended += 1
        self._watcher.answered(model, finished)
        if entry is not None and error is None:
            entry.finished = True
            entry.answer.finished = time.monotonic()
        if error is None or finished.cancelled:
            self._post(RequestFinished(finished.id, worker_id, finished.seconds, finished.peak))
        else:
            if entry is not None:
                entry.error = error
            sent = entry is not None and entry.answer.sent
            self._post(
                RequestFailed(finished.id, worker_id, sent, out_of_memory=error.out_of_memory, peak=finished.peak)
            )

    def _send(self, worker_id: int, message: messages.ToWorker) -> None:
        worker = self._workers.get(worker_id)
        if worker is not None:
            worker.send(message)
