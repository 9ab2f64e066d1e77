"""What a server's owner may ask of it: ``/admin/models/...`` and ``/admin/events``."""

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from cohabit.api.context import service_of, state_of
from cohabit.api.errors import ApiError
from cohabit.api.middleware.auth import still_valid
from cohabit.api.openapi import only
from cohabit.api.routes.models import find
from cohabit.api.routing import Responses, Router, json_response, query_of
from cohabit.api.streams import Stream, StreamTimeouts
from cohabit.core.admin import AdminRefusal, Objection
from cohabit.core.admission import SHUTTING_DOWN
from cohabit.core.commands import Rejection, RejectReason
from cohabit.core.events import AdminRequest, LoadRequested, PinRequested, SleepRequested, UnloadRequested
from cohabit.observability.feed import Feed, Subscription
from cohabit.runtime.admin import Ending
from cohabit.runtime.requests import ResponseFailed

router = Router("admin", only(500), prefix="/admin")

QUIET_SECONDS = 15.0  # after so long without an event a comment tells that the line is alive


class WaitQuery(msgspec.Struct):
    wait: Annotated[float, Meta(ge=0, le=600, description="Seconds to wait until it is done.")] = 60.0


Outcome = Literal["done", "under_way"]


class ActionResult(Struct):
    """What has come of the owner's word, and how the model stands."""

    outcome: Outcome
    model: str
    state: str
    pinned: bool


_ANSWERS: Responses = {
    200: {"model": ActionResult, "description": "Done."},
    202: {"model": ActionResult, "description": "Begun; it takes longer than was to be waited for."},
    **only(400, 404, 409, 503),
}


@router.post("/models/{name:path}/load", responses=_ANSWERS, query=WaitQuery)
async def load(request: Request) -> Response:
    """Bring a model in, by the rules that hold for a request: others leave for it as they would for a client."""
    return await _apply(request, LoadRequested(_model(request)), query_of(request, WaitQuery).wait)


@router.post("/models/{name:path}/sleep", responses=_ANSWERS, query=WaitQuery)
async def sleep(request: Request) -> Response:
    """Let a model finish what runs and fall asleep. The next request wakes it."""
    return await _apply(request, SleepRequested(_model(request)), query_of(request, WaitQuery).wait)


@router.post("/models/{name:path}/unload", responses=_ANSWERS, query=WaitQuery)
async def unload(request: Request) -> Response:
    """Let a model finish what runs and end its process. The next request brings it back."""
    return await _apply(request, UnloadRequested(_model(request)), query_of(request, WaitQuery).wait)


@router.post("/models/{name:path}/pin", responses=_ANSWERS)
async def pin(request: Request) -> Response:
    """Never evict a model, from now on until the server ends or it is unpinned. Does not bring it in."""
    return await _apply(request, PinRequested(_model(request), pinned=True), 1.0)


@router.post("/models/{name:path}/unpin", responses=_ANSWERS)
async def unpin(request: Request) -> Response:
    """Let a model be evicted like any other."""
    return await _apply(request, PinRequested(_model(request), pinned=False), 1.0)


_TEXT: Responses = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}, **only(404)}


@router.get("/models/{name:path}/log", responses=_TEXT)
async def log(request: Request) -> Response:
    """The last lines that a model's worker printed; of the one before, if it has none now."""
    lines = service_of(request).log_of(_model(request))
    return Response("".join(f"{line}\n" for line in lines), media_type="text/plain; charset=utf-8")


_EVENTS: Responses = {
    200: {
        "description": "Server-sent events: `model`, `swap`, `trim`, `rejected`, `alerts`; `lost`, and the end, if "
        "they were read too slowly.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.get("/events", responses=_EVENTS)
async def events(request: Request) -> Response:
    """What is decided, as it happens."""
    feed: Feed = request.app.state.feed
    timeouts: StreamTimeouts = request.app.state.timeouts
    return Events(feed, feed.subscribe(), timeouts, still_valid(request))


def _model(request: Request) -> str:
    """The name of the model in the path. Raises NotFound."""
    return find(service_of(request), request.path_params["name"]).name


async def _apply(request: Request, action: AdminRequest, wait: float) -> Response:
    service = service_of(request)
    state_of(request.scope)["model"] = action.model
    result = await service.administer(action, wait)
    if isinstance(result, Objection):
        if result.refusal is AdminRefusal.SHUTTING_DOWN:
            raise ResponseFailed(rejection=SHUTTING_DOWN)
        raise ApiError(409, result.detail, code=result.refusal)
    if result.ending is Ending.SUPERSEDED:
        raise ApiError(409, result.detail, code=result.ending)
    if result.ending is Ending.FAILED:
        raise ResponseFailed(rejection=Rejection(RejectReason.MODEL_FAILED, result.detail, 10.0))
    state, pinned = service.standing(action.model)
    outcome: Outcome = "done" if result.ending is Ending.DONE else "under_way"
    body = ActionResult(outcome=outcome, model=action.model, state=state, pinned=pinned)
    return json_response(body, 200 if result.ending is Ending.DONE else 202)


class Events(Stream):
    """The feed as server-sent events, until the reader or the server leaves."""

    media_type = "text/event-stream"

    def __init__(
        self, feed: Feed, subscription: Subscription, timeouts: StreamTimeouts, allowed: Callable[[], bool]
    ) -> None:
        """``timeouts`` says how long a client may read nothing; it ends when it is not ``allowed`` any more."""
        super().__init__(subscription, {}, timeouts)
        self._feed = feed
        self._subscription = subscription
        self._allowed = allowed

    async def _send_all(self) -> None:
        try:
            await self._push(b": listening\n\n")
            while not self._subscription.closed and self._allowed():
                messages = await self._subscription.some(QUIET_SECONDS)
                if messages or not self._subscription.closed:
                    await self._push(b"".join(messages) or b": quiet\n\n")
            end = b"event: lost\ndata: {}\n\n" if self._subscription.lost else b""
            await self._push(end, more=False)
        finally:
            self._feed.drop(self._subscription)
