"""From a validated request to a plain answer: submit, collect, headers."""

import re
import time

from starlette.requests import Request
from starlette.responses import Response

from cohabit.api.context import key_of, service_of, state_of
from cohabit.api.errors import BadRequest
from cohabit.api.middleware.disconnects import CLIENT_GONE, Watch
from cohabit.protocol.tasks import Task
from cohabit.runtime.requests import ModelRequest, ResponseStream

_UNSAYABLE = re.compile(r"[^ -~]")  # in a header: it would break it, or could not be written
_MAX_WARNING = 2048  # characters: the items of a batch may each have their own
WARNING = "x-cohabit-warning"
_SECONDS = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")


def submit(
    request: Request,
    model: str,
    task: Task,
    body: bytes,
    *,
    blobs: dict[str, bytes] | None = None,
    batch: int | None = None,
) -> ResponseStream:
    """Queue a request for a model. Raises BadRequest for a malformed time limit."""
    state = state_of(request.scope)
    state["model"] = model
    call = ModelRequest(
        model=model,
        task=task,
        body=body,
        client=client_of(request),
        timeout=timeout_of(request),
        blobs=blobs or {},
        batch=batch,
        background=state.get("background", False),
    )
    return service_of(request).submit(call)


def client_of(request: Request) -> str:
    """Whom fairness is between: the key's name; without keys the peer's address."""
    key = key_of(request)
    if key is not None:
        return key.name
    return request.client.host if request.client is not None else ""


def timeout_of(request: Request) -> float | None:
    """``x-request-timeout`` in seconds. Raises BadRequest."""
    text = request.headers.get("x-request-timeout")
    if text is None:
        return None
    seconds = float(text) if _SECONDS.fullmatch(text) else 0.0
    if not seconds:
        raise BadRequest("x-request-timeout must be a number of seconds above 0", param="x-request-timeout")
    return seconds


async def collect(request: Request, answer: ResponseStream) -> bytes | None:
    """The whole answer; None if the client has gone. Raises ResponseFailed."""
    with Watch(request.receive, answer, when_gone=answer.complete) as watch:
        parts = await answer.some()
        while more := await answer.some():
            parts += more
    return None if watch.gone else b"".join(parts)


def timings(answer: ResponseStream, *, run: bool, warning: str | None = None) -> dict[str, str]:
    """Where the time of a request went, in milliseconds, and what its client should know."""
    dispatched = answer.dispatched or time.monotonic()
    waited = max(0.0, dispatched - answer.arrived - answer.load_seconds)
    headers = {
        "x-cohabit-queue-ms": f"{waited * 1000:.0f}",
        "x-cohabit-load-ms": f"{answer.load_seconds * 1000:.0f}",
    }
    if warning is not None:
        headers[WARNING] = _sayable(warning)
    if run:
        headers["x-cohabit-run-ms"] = f"{((answer.finished or time.monotonic()) - dispatched) * 1000:.0f}"
    return headers


def warn(response: Response, warning: str | None) -> None:
    """Tell the client of a request what of it was ignored, if anything."""
    if warning is not None:
        response.headers[WARNING] = _sayable(warning)


def _sayable(warning: str) -> str:
    return _UNSAYABLE.sub("?", warning)[:_MAX_WARNING]


async def plain(request: Request, answer: ResponseStream, warning: str | None = None) -> Response:
    """A JSON answer, passed through as the engine made it."""
    data = await collect(request, answer)
    if data is None:
        return Response(status_code=CLIENT_GONE)
    return Response(data, media_type="application/json", headers=timings(answer, run=True, warning=warning))
