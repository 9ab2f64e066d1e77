"""What a request sent is held no longer than it is needed."""

import asyncio
import base64
import gc
import weakref
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.types import Message

from api.fake_service import Exchange, FakeService, Served, as_asked
from cohabit.api.app import create_app
from cohabit.api.errors import BadRequest
from cohabit.api.media.media_inputs import MAX_PICTURES, attended
from cohabit.protocol.inspection import Piece
from cohabit.runtime.inspectors import TooBusy
from harness import PATIENCE
from samples import animated, asking, bomb, clean_picture, data_url, picture, tone


class Sent:
    """Stands for many MiB."""


async def refused(_sent: Sent) -> None:
    raise BadRequest("no")


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


async def test_refused_media_is_freed_without_the_garbage_collector() -> None:
    sent = Sent()
    freed = weakref.ref(sent)
    gc.disable()
    try:
        with suppress(BadRequest):
            await attended(Request({"type": "http", "headers": []}, never), refused(sent))
        del sent
        for _ in range(3):
            await asyncio.sleep(0)  # the watch ends
        assert freed() is None
    finally:
        gc.enable()


PATH = "/v1/chat/completions"


@pytest.mark.parametrize("model", ["seer", "labels"])
async def test_model_gets_a_re_encoded_picture(model: str, http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    body = {"model": model, "messages": asking(picture())}
    assert (await http.post(PATH, json=body)).status_code == 200
    assert data_url(clean_picture(picture())).encode() in service.calls[0].body
    assert data_url(picture()).encode() not in service.calls[0].body


@pytest.mark.parametrize(
    ("url", "why"),
    [
        (data_url(picture()[:-100]), "is a broken picture: its data ends too early"),
        (data_url(b"text"), "is not a picture that can be read; send PNG, JPEG, WEBP, GIF, BMP"),
        (data_url(bomb()), "has 10000 x 10000 pixels; at most 25 megapixels are taken, make it smaller"),
        (data_url(animated("GIF")), "is animated; send a single frame"),
        ("data:image/png;base64,%%%", "is not valid base64"),
        ("", "is not a picture that can be read"),
    ],
)
async def test_invalid_pictures_say_what_is_wrong(url: str, why: str, served: Served) -> None:
    messages = asking(picture())
    messages[0]["content"].append({"type": "image_url", "image_url": {"url": url}})
    answer = await served.http.post(PATH, json={"model": "seer", "messages": messages})
    assert answer.status_code == 400
    error = answer.json()["error"]
    place = "messages.0.content.2.image_url.url"
    assert error["message"].startswith(f"{place} {why}")
    assert (error["param"], error["code"]) == (place, "invalid_image")
    assert not served.service.calls


async def test_pictures_in_a_chat_are_limited(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    part = asking(picture())[0]["content"][1]
    for count, status in ((MAX_PICTURES, 200), (MAX_PICTURES + 1, 400)):
        messages = [{"role": "user", "content": [part] * count}]
        answer = await http.post(PATH, json={"model": "seer", "messages": messages})
        assert answer.status_code == status
    assert answer.json()["error"]["message"] == "messages may hold at most 32 pictures"


@pytest.mark.parametrize("content", ["what is it?", [{"type": "text", "text": "what is it?"}]])
async def test_image_model_needs_a_picture(content: Any, http: httpx2.AsyncClient, service: FakeService) -> None:
    answer = await http.post(PATH, json={"model": "labels", "messages": [{"role": "user", "content": content}]})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("labels only tells of pictures; add an image_url part")
    assert not service.calls


class Busy(FakeService):
    """Looks at nothing until the test lets it, or not at all."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.looking = asyncio.Event()
        self.left = asyncio.Event()
        self._error = error

    async def inspect(self, piece: Piece, client: str) -> bytes:
        if self._error is not None:
            raise self._error
        self.looking.set()
        try:
            await asyncio.Future()
        finally:
            self.left.set()
        return b""


SEEN = {"model": "seer", "messages": asking(picture())}
ITEM = {"type": "chat", "data": {"messages": asking(picture())}}
SAID = {"type": "transcribe", "data": {"audio": base64.b64encode(tone()).decode()}}
FORM = (
    b'--x\r\ncontent-disposition: form-data; name="model"\r\n\r\nstt\r\n'
    b'--x\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\n%b\r\n--x--\r\n' % tone()
)
DOORS: dict[str, Any] = {
    PATH: SEEN,
    "/v1/responses": {
        "model": "seer",
        "input": [{"role": "user", "content": [{"type": "input_image", "image_url": data_url(picture())}]}],
    },
    "/inference": ITEM,
    "/batch": [ITEM, SAID],
    "/v1/audio/transcriptions": FORM,
    "/v1/audio/translations": FORM,
}


@pytest.mark.parametrize("path", DOORS)
async def test_picture_is_not_opened_for_a_client_that_has_left(path: str) -> None:
    service = Busy()
    headers = {"content-type": "multipart/form-data; boundary=x"} if DOORS[path] is FORM else {}
    async with Exchange(create_app(service), path, DOORS[path], headers=headers) as exchange:
        async with asyncio.timeout(PATIENCE):
            await service.looking.wait()
            exchange.leave()
            await service.left.wait()
            await exchange.ended()
    assert service.calls == []


async def test_time_limit_holds_while_a_picture_waits_to_be_opened() -> None:
    service = Busy()
    transport = httpx2.ASGITransport(app=create_app(service))
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
        answer = await http.post(PATH, json=SEEN, headers={"x-request-timeout": "0.01"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (408, "deadline_exceeded")
    assert answer.headers["x-should-retry"] == "false"
    assert service.left.is_set()
    assert service.calls == []


@pytest.mark.parametrize("path", DOORS)
async def test_busy_inspector_says_when_to_retry(path: str) -> None:
    transport = httpx2.ASGITransport(app=create_app(Busy(TooBusy())))
    body = DOORS[path]
    async with httpx2.AsyncClient(transport=transport, base_url="http://test") as http:
        if body is FORM:
            headers = {"content-type": "multipart/form-data; boundary=x"}
            answer = await http.post(path, content=body, headers=headers)
        else:
            answer = await http.post(path, json=body)
    if path == "/batch":
        errors = [result["error"] for result in answer.json()["results"]]
    else:
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        errors = [answer.json()["error"]]
    assert {(error["code"], error["type"]) for error in errors} == {("too_busy", "server_error")}
