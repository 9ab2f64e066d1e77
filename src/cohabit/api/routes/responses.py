"""``/v1/responses``: a chat in other words. Nothing is kept, so that each request brings the whole conversation."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from cohabit.api import model_support
from cohabit.api.bodies import check_size
from cohabit.api.context import service_of
from cohabit.api.errors import BadRequest, Refused
from cohabit.api.fields import apart, read_fields, validate_plain, warnings
from cohabit.api.media.media_inputs import attended, check_pictures, media_of, put_pictures
from cohabit.api.middleware.disconnects import CLIENT_GONE
from cohabit.api.openapi import ERRORS, streamed
from cohabit.api.routes.models import choose
from cohabit.api.routing import Router
from cohabit.api.streams import EventStream, StreamTimeouts, events
from cohabit.api.submission import collect, submit, timings
from cohabit.protocol.tasks import Task
from cohabit.runtime.requests import ResponseFailed, ResponseStream
from cohabit.schemas.chat import ChatRequest
from cohabit.schemas.responses import ResponseObject, ResponseRequest
from cohabit.schemas.responses_input import LOGPROBS, NAMES, chat_of
from cohabit.schemas.responses_output import Event, ResponseEvents

router = Router("text", {**streamed(ResponseObject), **ERRORS})


@router.post("/v1/responses", body=ResponseRequest)
async def respond(request: Request) -> Response:
    """ResponseStream an input, at once or as a stream of typed events."""
    validated = await read_fields(ResponseRequest, request)
    body = validated.body
    _check(body)
    service = service_of(request)
    info = choose(service, body.model, Task.CHAT)
    validated.choose(info, Task.CHAT)
    chat = await apart(
        validated.size,
        lambda: validate_plain(ChatRequest, {**chat_of(body), "model": info.name}, size=validated.size),
    )
    chat.parameters = validated.parameters
    check_size(chat.text_bytes, "input", info.max_text)
    unsupported = model_support.check(service, info, Task.CHAT, chat.body, renamed=NAMES)
    warning = warnings(unsupported, validated.warning)
    urls = await attended(request, check_pictures(media_of(request), info, body.pictures(), "input"))
    clean = {url: urls[place] for place, url in body.pictures()}
    put_pictures(chat.plain, {place: clean[url] for place, url in chat.body.pictures()})
    answer = submit(request, info.name, Task.CHAT, await chat.sent())
    response_events = ResponseEvents(body, info.name)
    if body.stream:
        return events(request, answer, warning, partial(TypedStream, response_events))
    try:
        raw = await collect(request, answer)
    except ResponseFailed as failure:
        raise _with_our_field(failure) from None
    if raw is None:
        return Response(status_code=CLIENT_GONE)
    whole = response_events.whole(msgspec.json.decode(raw))
    headers = timings(answer, run=True, warning=warning)
    return Response(msgspec.json.encode(whole), media_type="application/json", headers=headers)


class TypedStream(EventStream):
    """A chat's chunks as the events of a response. It ends with an event that says how, not with ``[DONE]``."""

    def __init__(
        self,
        response_events: ResponseEvents,
        answer: ResponseStream,
        headers: Mapping[str, str],
        timeouts: StreamTimeouts,
    ) -> None:
        """``response_events`` has made no event yet."""
        super().__init__(answer, headers, timeouts)
        self._response = response_events

    async def _begin(self) -> None:
        try:
            await super()._begin()
        except ResponseFailed as failure:
            raise _with_our_field(failure) from None

    def _first(self) -> bytes:
        return _encoded(self._response.begin())

    def _events(self, chunks: Sequence[bytes]) -> bytes:
        return b"".join([_encoded(self._response.on_chunk(msgspec.json.decode(chunk))) for chunk in chunks])

    def _failure(self, refused: Refused) -> bytes:
        return _encoded(self._response.fail(refused.status, refused.body["error"]))

    def _end(self) -> bytes:
        return _encoded(self._response.end())


def _encoded(events: Iterable[Event]) -> bytes:
    return b"".join(
        [b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event)) for event in events]
    )


def _with_our_field(failure: ResponseFailed) -> ResponseFailed:
    """An engine names the field of the chat that it was asked."""
    error = failure.error
    if error is None or error.param is None or error.param not in NAMES:
        return failure
    return ResponseFailed(error=msgspec.structs.replace(error, param=NAMES[error.param]))


def _check(body: ResponseRequest) -> None:
    """Raises BadRequest for what is not done here, rather than answering as if it had not been asked."""
    if body.top_logprobs is not None and LOGPROBS not in (body.include or []):
        raise BadRequest(f"top_logprobs needs include to have {LOGPROBS}", param="top_logprobs")
    if body.truncation == "auto":
        message = "truncation is not supported: no input is shortened here; send less, or leave it out"
        raise BadRequest(message, param="truncation", code="unsupported_parameter")
    for place, tool in enumerate(body.tools or []):
        if tool.type != "function":
            message = "only tools of the type function can be used; there are no built-in ones"
            raise BadRequest(message, param=f"tools.{place}.type", code="unsupported_parameter")
        if tool.name is None:
            raise BadRequest(f"tools.{place}.name is missing", param=f"tools.{place}.name")
