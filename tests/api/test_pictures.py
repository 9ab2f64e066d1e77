"""Pictures in chats: looked at before anything is queued, whatever is wrong with them."""

from typing import Any

import httpx2
import pytest

from api.driving import FakeService, Served, as_asked
from cohabit.api.pictures import MOST_PICTURES
from samples import animated, asking, bomb, clean_picture, data_url, picture

PATH = "/v1/chat/completions"


@pytest.mark.parametrize("model", ["seer", "labels"])
async def test_a_model_is_given_a_picture_of_our_own_making(
    model: str, http: httpx2.AsyncClient, service: FakeService
) -> None:
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
async def test_what_is_wrong(url: str, why: str, served: Served) -> None:
    messages = asking(picture())
    messages[0]["content"].append({"type": "image_url", "image_url": {"url": url}})
    answer = await served.http.post(PATH, json={"model": "seer", "messages": messages})
    assert answer.status_code == 400
    error = answer.json()["error"]
    place = "messages.0.content.2.image_url.url"
    assert error["message"].startswith(f"{place} {why}")
    assert (error["param"], error["code"]) == (place, "invalid_image")
    assert not served.service.calls


async def test_so_many_pictures_and_no_more(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    part = asking(picture())[0]["content"][1]
    for count, status in ((MOST_PICTURES, 200), (MOST_PICTURES + 1, 400)):
        messages = [{"role": "user", "content": [part] * count}]
        answer = await http.post(PATH, json={"model": "seer", "messages": messages})
        assert answer.status_code == status
    assert answer.json()["error"]["message"] == "messages may hold at most 32 pictures"


@pytest.mark.parametrize("content", ["what is it?", [{"type": "text", "text": "what is it?"}]])
async def test_a_model_that_only_tells_of_pictures_needs_one(
    content: Any, http: httpx2.AsyncClient, service: FakeService
) -> None:
    answer = await http.post(PATH, json={"model": "labels", "messages": [{"role": "user", "content": content}]})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("labels only tells of pictures; add an image_url part")
    assert not service.calls
