"""Requests on their way to workers and back."""

from typing import Any, cast

from cohabit.core.commands import Rejection, RejectReason
from cohabit.core.events import Event, RequestCancelled, RequestFailed, RequestFinished
from cohabit.protocol import messages
from cohabit.protocol.engine import Chunk, EngineRequest
from cohabit.protocol.tasks import Task
from cohabit.runtime.inflight import InFlightRequests
from cohabit.runtime.workers.handle import WorkerHandle


class RecordingWorker(WorkerHandle):
    """Keeps what it is sent, as long as that fits into a message."""

    sent: list[messages.ToWorker]

    def send(self, message: messages.ToWorker) -> None:
        messages.encode(message)
        self.sent.append(message)


class Scene:
    """One worker, and what is posted to the core."""

    def __init__(self) -> None:
        self.worker = RecordingWorker(1, "m", 0.0)
        self.worker.sent = []
        self.posted: list[Event] = []
        self.inflight = InFlightRequests(post=self.posted.append, watcher=cast("Any", self))

    def answered(self, model: str, finished: messages.Finished) -> None:
        assert (model, finished.seconds) == ("m", 1.0)

    def open(self, request: int, size: int = 1) -> Any:
        return self.inflight.open(EngineRequest(request, Task.EMBED, b" " * size))

    def finish(self, request: int) -> None:
        self.inflight.on_message(self.worker, messages.Finished(request, Task.EMBED, seconds=1.0, peak=2, idle=1))


def test_batch_too_large_for_one_message_is_split_and_the_oversized_request_fails_alone() -> None:
    scene = Scene()
    for request, size in ((1, 40), (2, 65), (3, 40)):
        scene.open(request, size << 20)
    scene.inflight.dispatch(scene.worker, (1, 2, 3))
    assert [[item.id for item in cast("messages.RunBatch", run).batch] for run in scene.worker.sent] == [[1], [3]]
    assert scene.posted == [RequestFailed(2, 1, sent=False)]
    error = scene.inflight.streams[2].error
    assert error is not None
    assert (error.status, error.code) == (413, "request_too_large")


async def test_response_passes_from_its_worker_to_its_client_and_is_then_forgotten() -> None:
    scene = Scene()
    stream = scene.open(1)
    scene.inflight.dispatch(scene.worker, (1,))
    scene.inflight.on_message(scene.worker, Chunk(1, b"a"))
    scene.finish(1)
    scene.inflight.on_message(scene.worker, messages.End(1))
    assert [chunk async for chunk in stream] == [b"a"]
    assert scene.posted == [RequestFinished(1, 1, 1.0, 2)]
    assert scene.inflight.streams == {}


def test_client_that_leaves_after_the_run_frees_what_its_worker_keeps() -> None:
    scene = Scene()
    scene.open(1)
    scene.inflight.dispatch(scene.worker, (1,))
    scene.finish(1)
    scene.inflight.on_client_left(1)
    assert scene.worker.sent[1:] == [messages.CancelRun(1)]
    assert scene.posted[-1] == RequestCancelled(1)
    scene.inflight.on_message(scene.worker, Chunk(1, b"late"))


def test_client_that_left_before_the_dispatch_is_not_sent_to_the_worker() -> None:
    scene = Scene()
    scene.open(1)
    scene.inflight.on_client_left(1)
    scene.inflight.dispatch(scene.worker, (1,))
    assert scene.worker.sent == []
    assert scene.posted == [RequestCancelled(1), RequestFinished(1, 1, 0.0, 0)]


def test_death_of_a_worker_ends_what_was_only_to_be_sent_and_tells_which_responses_had_begun() -> None:
    scene = Scene()
    done, begun, waiting = scene.open(1), scene.open(2), scene.open(3)
    scene.inflight.dispatch(scene.worker, (1, 2, 3))
    scene.finish(1)
    begun.sent = True
    assert scene.inflight.on_worker_lost(scene.worker) == {2}
    assert done.failure.rejection.reason is RejectReason.WORKER_DIED
    assert (begun.failure, waiting.failure) == (None, None), "the core decides about these"
    scene.inflight.grant_credit(3, 1, 1)
    assert len(scene.worker.sent) == 1, "nothing is sent to a dead worker"
    scene.inflight.reject_all(Rejection(RejectReason.SHUTTING_DOWN, "the server shuts down"))
    assert scene.inflight.streams == {}
    assert waiting.failure.rejection.reason is RejectReason.SHUTTING_DOWN
