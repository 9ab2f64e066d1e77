"""Requests on their way to workers."""

from typing import Any, cast

from cohabit.core.events import Event, RequestFailed
from cohabit.protocol import messages
from cohabit.protocol.tasks import Task
from cohabit.runtime.inflight import InFlightRequest, InFlightRequests
from cohabit.runtime.requests import Answer, Call
from cohabit.runtime.workers.supervisor import WorkerHandle


class Listening(WorkerHandle):
    """A worker that keeps what it is sent, as long as that fits into a message."""

    sent: list[list[int]]

    def send(self, message: messages.ToWorker) -> None:
        messages.encode(message)
        assert isinstance(message, messages.RunBatch)
        self.sent.append([request.id for request in message.batch])


def test_what_is_too_large_for_one_message_goes_one_by_one_and_fails_by_itself() -> None:
    worker = Listening("m", 0.0)
    worker.sent = []
    posted: list[Event] = []
    answers = InFlightRequests({1: worker}, post=posted.append, watcher=cast("Any", None))
    for request, size in ((1, 40), (2, 65), (3, 40)):
        call = Call(model="m", task=Task.EMBED, body=b" " * (size << 20), client="")
        answer = Answer(request, cancel=lambda _: None, taken=answers.taken)
        answers.open[request] = InFlightRequest(call, answer)
    answers.dispatch(1, (1, 2, 3))
    assert worker.sent == [[1], [3]]
    assert posted == [RequestFailed(2, 1, sent=False)]
    error = answers.open[2].error
    assert error is not None
    assert (error.status, error.code) == (413, "request_too_large")
