"""Requests from when they are accepted until their response has ended: sent to workers, streamed back, ended."""

import time
from collections.abc import Callable
from typing import Protocol

from cohabit.core.commands import Rejection, RejectReason
from cohabit.core.events import Event, RequestCancelled, RequestFailed, RequestFinished
from cohabit.protocol import messages
from cohabit.protocol.engine import Chunk, EngineRequest, ItemError
from cohabit.runtime.requests import ResponseFailed, ResponseStream
from cohabit.runtime.workers.handle import WorkerHandle


class Watcher(Protocol):
    """Gets what does not pass the core."""

    def answered(self, model: str, finished: messages.Finished) -> None:
        """A worker is done with a request."""


class InFlightRequests:
    """Owns ``streams``, which has every response that has not ended, by the id of its request."""

    def __init__(self, *, post: Callable[[Event], None], watcher: Watcher) -> None:
        self.streams: dict[int, ResponseStream] = {}
        self.ended = 0
        """Requests so far that a worker is done with. A rejected one does not count: to refuse it is no progress."""
        self._post = post
        self._watcher = watcher
        self._cancel, self._credit = self.on_client_left, self.grant_credit  # made once: thousands of streams hold it

    # for the clients

    def open(self, work: EngineRequest) -> ResponseStream:
        """Accept a request; the stream of its response."""
        stream = self.streams[work.id] = ResponseStream(work.id, cancel=self._cancel, grant_credit=self._credit)
        stream.work = work
        return stream

    def on_client_left(self, request: int) -> None:
        """Whatever still comes of the response goes nowhere."""
        stream = self.streams.pop(request, None)
        if stream is not None and stream.finished is not None and stream.worker is not None:
            stream.worker.send(messages.CancelRun(request))  # lets the worker drop what it keeps for it
        self._post(RequestCancelled(request))

    def grant_credit(self, request: int, chunks: int, size: int) -> None:
        """A client has taken chunks, of so many bytes together: its worker may send as much more."""
        stream = self.streams.get(request)
        if stream is not None and stream.worker is not None:
            stream.worker.send(messages.Credit(request, chunks, size))

    # for the core

    def dispatch(self, worker: WorkerHandle, requests: tuple[int, ...]) -> None:
        """Give a worker a batch."""
        batch = []
        now = time.monotonic()
        for request in requests:
            stream = self.streams.get(request)
            if stream is None or stream.work is None:  # its client left just now; RequestCancelled is on its way
                self._post(RequestFinished(request, worker.id, 0.0, 0))
                continue
            stream.worker = worker
            stream.restart()
            stream.dispatched = now
            stream.load_seconds = worker.coming_in(since=stream.arrived)
            batch.append(stream.work)
        if batch:
            self._run(worker, batch)

    def _run(self, worker: WorkerHandle, batch: list[EngineRequest]) -> None:
        """Send it. What is too large for one message goes one by one, so that each fails by itself."""
        try:
            worker.send(messages.RunBatch(batch))
        except messages.FrameTooLarge:
            if len(batch) > 1:
                for item in batch:
                    self._run(worker, [item])
                return
            (item,) = batch
            error = ItemError(item.id, "the request is too large", status=413, code="request_too_large")
            self.streams[item.id].error = error
            self._post(RequestFailed(item.id, worker.id, sent=False))

    def reject(self, request: int, rejection: Rejection) -> None:
        """End a request without (the rest of) its response."""
        stream = self.streams.pop(request, None)
        if stream is None:
            return
        stream.finished = time.monotonic()
        if rejection.reason is RejectReason.ENGINE and stream.error is not None:
            stream.fail(ResponseFailed(error=stream.error))
        else:
            stream.fail(ResponseFailed(rejection=rejection))

    def reject_all(self, rejection: Rejection) -> None:
        """End every request whose response has not ended."""
        for request in list(self.streams):
            self.reject(request, rejection)

    # from the workers

    def on_message(self, worker: WorkerHandle, message: Chunk | messages.Finished | messages.End) -> None:
        """A worker has sent a part or the end of a response."""
        match message:
            case Chunk(request, data):
                stream = self.streams.get(request)
                if stream is not None:
                    stream.put(data)
            case messages.End(request):
                stream = self.streams.pop(request, None)
                if stream is not None:
                    stream.complete()
            case messages.Finished():
                self._finished(worker, message)

    def on_worker_lost(self, worker: WorkerHandle) -> frozenset[int]:
        """End responses that were only to be sent; of its other requests, those of which clients have a part."""
        lost = {request: stream for request, stream in self.streams.items() if stream.worker is worker}
        for request, stream in lost.items():
            stream.worker = None
            if stream.finished is not None:  # the core is done with it; the rest of the response died with the worker
                why = f"the worker of {worker.model} died before all of the answer was sent"
                self.reject(request, Rejection(RejectReason.WORKER_DIED, why, 1.0))
        return frozenset(request for request, stream in lost.items() if stream.sent)

    def _finished(self, worker: WorkerHandle, finished: messages.Finished) -> None:
        stream = self.streams.get(finished.id)
        error = finished.error
        self.ended += 1
        self._watcher.answered(worker.model, finished)
        if stream is not None and error is None:
            stream.finished = time.monotonic()
        if error is None or finished.cancelled:
            self._post(RequestFinished(finished.id, worker.id, finished.seconds, finished.peak))
        else:
            if stream is not None:
                stream.error = error
            sent = stream is not None and stream.sent
            self._post(
                RequestFailed(finished.id, worker.id, sent, out_of_memory=error.out_of_memory, peak=finished.peak)
            )
