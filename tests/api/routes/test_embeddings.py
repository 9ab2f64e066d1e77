"""``/v1/embeddings``: bodies pass as they are; shorter vectors only of models that were trained for them."""

import json
from dataclasses import replace
from typing import Any

import httpx2
import pytest

from api.fake_service import FakeService, as_asked, failing
from cohabit.protocol.engine import ItemError
from cohabit.protocol.tasks import Capability, Task
from cohabit.runtime.requests import ResponseFailed

PATH = "/v1/embeddings"
REFUSED = ResponseFailed(
    error=ItemError(1, "it makes vectors of 384", code="unsupported_parameter", param="dimensions"),
)


@pytest.mark.parametrize("sent", ["one", ["one", "two"], [1, 2, 3], [[1, 2], [3]], ["x"] * 2048])
async def test_every_form_of_input_reaches_the_engine_unchanged(
    sent: Any, http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = as_asked
    body = {"model": "embeddings", "input": sent, "dimensions": 8}
    assert (await http.post(PATH, json={**body, "user": "u"})).status_code == 200
    (call,) = service.calls
    assert (call.task, json.loads(call.body)) == (Task.EMBED, body)


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ("", "input must not be empty"),
        ([], "input must not be empty"),
        (["a", ""], "input.1 must not be empty"),
        ([[1], []], "input.1 must not be empty"),
        ([-1], "input.0 must be at least 0"),
        (["x"] * 2049, "input must have at most 2048 entries"),
        (["x" * 1024] * 1025, "the request holds 1049600 bytes of text"),
    ],
)
async def test_invalid_request_is_refused(
    sent: Any, message: str, http: httpx2.AsyncClient, service: FakeService
) -> None:
    answer = await http.post(PATH, json={"model": "embeddings", "input": sent})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(message)
    assert not service.calls


async def test_error_of_dimensions_names_models_that_can_shorten(
    http: httpx2.AsyncClient, service: FakeService
) -> None:
    service.reply = failing(REFUSED)
    body = {"model": "embeddings", "input": "a", "dimensions": 64}
    error = (await http.post(PATH, json=body)).json()["error"]
    assert error["message"] == "embeddings cannot shorten its vectors; no configured model can"
    nested = replace(service.models["embeddings"], name="nested", capabilities=frozenset({Capability.SHORTEN}))
    service.models = {**service.models, "nested": nested}
    error = (await http.post(PATH, json=body)).json()["error"]
    assert error["message"] == "embeddings cannot shorten its vectors; models that can: nested"
    assert (error["param"], error["code"]) == ("dimensions", "unsupported_parameter")


async def test_other_failures_are_passed_on(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = failing(ResponseFailed(error=ItemError(1, "input.0 is empty", param="input.0")))
    error = (await http.post(PATH, json={"model": "embeddings", "input": ["a"]})).json()["error"]
    assert (error["message"], error["param"]) == ("input.0 is empty", "input.0")
