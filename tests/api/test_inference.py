"""``/inference``: its own words, turned into OpenAI's and back."""

import json
from typing import Any

import httpx2
import pytest

from api.driving import CANARY, FakeService, as_asked
from cohabit.protocol.tasks import Task

CHATTED = {
    "text": "Hi!",
    "finish_reason": "stop",
    "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
}
MESSAGES = [{"role": "user", "content": "hello"}]
LLM_BODY = {"model": "llm", "messages": MESSAGES}


@pytest.mark.parametrize(
    ("data", "body"),
    [
        ({"prompt": "hello"}, LLM_BODY),
        ({"messages": MESSAGES}, LLM_BODY),
        ({"prompt": "hello", "temperature": 0, "top_k": 5}, {**LLM_BODY, "temperature": 0, "top_k": 5}),
    ],
)
async def test_chat(data: dict[str, Any], body: Any, http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    whole = await http.post("/inference", json={"type": "chat", "data": data})
    short = await http.post("/inference", params={"request_type": "chat"}, json=data)
    assert whole.json() == short.json() == CHATTED
    assert "x-cohabit-run-ms" in whole.headers
    for call in service.calls:
        assert (call.model, call.task) == ("llm", Task.CHAT)
        assert json.loads(call.body) == body


@pytest.mark.parametrize(
    ("data", "texts"), [({"text": "hello"}, "hello"), ({"texts": ["hello", "you"]}, ["hello", "you"])]
)
async def test_embed(data: dict[str, Any], texts: Any, http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    whole = await http.post("/inference", json={"type": "embed", "data": data})
    short = await http.post("/inference", params={"request_type": "embed"}, json=data)
    assert whole.json() == short.json() == {"embeddings": [[1.0, 0.5]]}
    for call in service.calls:
        assert json.loads(call.body) == {"model": "embeddings", "input": texts}


async def test_a_model_may_be_named(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    await http.post("/inference", json={"type": "chat", "data": {"prompt": "hello"}, "model": "seer"})
    assert service.calls[0].model == "seer"


async def test_no_model_has_the_task(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.models = {}
    answer = await http.post("/inference", json={"type": "chat", "data": {"prompt": "hello"}})
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "no model is configured that can chat"


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"data": {}}, "type is missing", "type"),
        ({"type": CANARY, "data": {}}, "type must be 'chat' or 'embed'", "type"),
        ({"type": "chat", "data": CANARY}, "data must be an object", "data"),
        ({"type": "chat", "data": {}, CANARY: 1}, "the body has a field that is not known here", None),
        ({"type": "chat", "data": {}}, "data needs either prompt or messages", "data"),
        ({"type": "chat", "data": {"prompt": "a", "messages": []}}, "data needs either prompt or messages", "data"),
        ({"type": "chat", "data": {"prompt": 1}}, "data.prompt must be a string", "data.prompt"),
        ({"type": "chat", "data": {"prompt": "a", "stream": True}}, "data.stream must be False", "data.stream"),
        ({"type": "chat", "data": {"messages": [1]}}, "data.messages.0 must be an object", "data.messages.0"),
        ({"type": "embed", "data": {}}, "data needs either text or texts", "data"),
        ({"type": "embed", "data": {"text": "a", CANARY: 1}}, "data has a field that is not known here", None),
        (
            {"type": "embed", "data": {"texts": ["a", ""]}},
            "data.texts.1 must have at least 1 characters",
            "data.texts.1",
        ),
    ],
)
async def test_what_is_wrong(
    body: dict[str, Any], message: str, param: str | None, http: httpx2.AsyncClient, service: FakeService
) -> None:
    answer = await http.post("/inference", json=body)
    assert answer.status_code == 400
    assert (answer.json()["error"]["message"], answer.json()["error"]["param"]) == (message, param)
    assert not service.calls


@pytest.mark.parametrize("raw", [b"[]", b"7", b'"x"', b"null"])
async def test_data_alone_must_be_an_object(raw: bytes, http: httpx2.AsyncClient) -> None:
    answer = await http.post("/inference?request_type=chat", content=raw)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "the body must be a JSON object"
