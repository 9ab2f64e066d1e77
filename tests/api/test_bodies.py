"""Bodies: what is refused at the door, and that nothing of them is repeated."""

import json
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import httpx2
import msgspec
import pytest
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from api.fake_service import CANARY, CHAT, Exchange, FakeService, as_asked
from cohabit.api.bodies import LARGE, read
from cohabit.api.errors import BadRequest
from cohabit.api.fields import split, validate
from cohabit.api.http.connections import GONE
from cohabit.api.middleware.disconnects import CLIENT_GONE
from cohabit.runtime.service import BYTES_A_TOKEN, MAX_TEXT
from cohabit.schemas.base import MAX_BODY, Fields
from cohabit.schemas.chat import ChatRequest, CompletionRequest
from cohabit.schemas.embedding import EmbeddingRequest

NOT_JSON = [
    b"",
    b"{",
    b"hello",
    b'{"a": 1',
    b"[" * 3000 + b"]" * 3000,
    b'{"model": "llm", "x": ' + b"[" * 3000 + b"]" * 3000 + b"}",
    b'{"model": "\xff"}',
    b'{"model": "\\ud800"}',
    b'{"x": NaN}',
    b'{"x": Infinity}',
    b'{"x": -Infinity}',
    b'{"x": 1e999}',
    b'{"logit_bias": {"1": NaN}}',
]
POSTS = ["/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/inference", "/inference?request_type=chat"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("raw", NOT_JSON)
async def test_invalid_json_is_a_400(path: str, raw: bytes, http: httpx2.AsyncClient, service: FakeService) -> None:
    answer = await http.post(path, content=raw)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_json"
    assert not service.calls


@pytest.mark.parametrize("number", [b"NaN", b"1e999", b"-1e999", b"Infinity"])
async def test_infinite_number_never_reaches_an_engine(
    number: bytes, http: httpx2.AsyncClient, service: FakeService
) -> None:
    whole = json.dumps({**CHAT, "logit_bias": {"1": 7}, "not_known_here": 7}).encode()
    for position in (whole.index(b"7"), whole.rindex(b"7")):
        raw = whole[:position] + number + whole[position + 1 :]
        assert (await http.post("/v1/chat/completions", content=raw)).status_code == 400
    assert not service.calls


def chat(**fields: Any) -> dict[str, Any]:
    return {**CHAT, **fields}


def content(value: Any) -> dict[str, Any]:
    return {"model": "llm", "messages": [{"role": "user", "content": value}]}


@pytest.mark.parametrize(
    ("kind", "body", "message"),
    [
        (ChatRequest, [], "the body must be an object"),
        (ChatRequest, {}, "model is missing"),
        (ChatRequest, {"model": "llm", "messages": []}, "messages must not be empty"),
        (ChatRequest, {"model": "m" * 300, "messages": []}, "model must have at most 256 characters"),
        (ChatRequest, {"model": "llm", "messages": [7]}, "messages.0 must be an object"),
        (
            ChatRequest,
            {"model": "llm", "messages": [{"role": CANARY}]},
            "messages.0.role must be 'assistant', 'developer', 'function', 'system', 'tool' or 'user'",
        ),
        (ChatRequest, content(5), "messages.0.content must be a string or an array"),
        (ChatRequest, content([{"type": "text"}]), "messages.0.content.0.text is missing"),
        (ChatRequest, content([{"type": "text", "text": 5}]), "messages.0.content.0.text must be a string"),
        (
            ChatRequest,
            content([{"type": CANARY}]),
            "messages.0.content.0.type must be 'text', 'image_url' or 'refusal'",
        ),
        (ChatRequest, content([{CANARY: 1}]), "messages.0.content.0.type is missing"),
        (ChatRequest, chat(temperature=CANARY), "temperature must be a number"),
        (ChatRequest, chat(temperature=3), "temperature must be at most 2.0"),
        (ChatRequest, chat(stream=1), "stream must be true or false"),
        (ChatRequest, chat(n=1.5), "n must be a whole number"),
        (ChatRequest, chat(n=0), "n must be at least 1"),
        (ChatRequest, chat(seed=2**63), f"seed must be at most {2**63 - 1}"),
        (ChatRequest, chat(logit_bias={CANARY: "x"}), "logit_bias must be a number"),
        (ChatRequest, chat(logit_bias=[]), "logit_bias must be an object"),
        (ChatRequest, chat(tool_choice=CANARY), "tool_choice must be 'auto', 'none' or 'required'"),
        (CompletionRequest, {"model": "llm", "prompt": [[-1]]}, "prompt.0.0 must be at least 0"),
        (EmbeddingRequest, {"model": "e", "input": ""}, "input must not be empty"),
        (EmbeddingRequest, {"model": "e", "input": ["", 5]}, "input.0 must not be empty"),
        (
            EmbeddingRequest,
            {"model": "e", "input": [1.5]},
            "input.0 must be a whole number, a string or an array",
        ),
    ],
)
def test_error_names_the_field_and_what_it_must_be(kind: type[Fields], body: Any, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        validate(kind, split(json.dumps(body).encode(), kind))
    assert str(caught.value) == message
    param = message.split(maxsplit=1)[0]
    assert caught.value.body["error"]["param"] == (None if param == "the" else param)


def test_schema_of_a_body_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Anew(ChatRequest, kw_only=True):
        pass

    made: list[object] = []
    components = msgspec.json.schema_components

    def counted(kinds: list[Any]) -> Any:
        made.extend(kinds)
        return components(kinds)

    monkeypatch.setattr(msgspec.json, "schema_components", counted)
    for _ in range(3):
        with pytest.raises(BadRequest):
            validate(Anew, split(json.dumps({**CHAT, "tool_choice": "x"}).encode(), Anew))
    assert made == [Anew]


async def test_body_declared_over_the_limit_is_refused_unread(http: httpx2.AsyncClient) -> None:
    read: list[bytes] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(b" ")
        yield b" "

    answer = await http.post("/v1/chat/completions", content=body(), headers={"content-length": str(MAX_BODY + 1)})
    assert read == []
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


async def test_body_is_not_read_beyond_the_limit(app: Starlette) -> None:
    async with Exchange(app, "/v1/chat/completions", b" " * (2 * MAX_BODY + 2), parts=1) as exchange:
        await exchange.ended()
    assert exchange.status == 413


async def test_client_that_leaves_while_it_sends_is_no_error(
    app: Starlette, service: FakeService, logged: list[MutableMapping[str, Any]]
) -> None:
    async with Exchange(app, "/v1/chat/completions", CHAT, parts=1) as exchange:
        exchange.leave()
        await exchange.ended()
    assert exchange.status == CLIENT_GONE
    assert [(line["event"], line["log_level"]) for line in logged] == [("request", "info")]
    assert not service.calls


MOST_PROMPT = 2048 * BYTES_A_TOKEN  # for the context of the models here
LONG = "x" * MAX_TEXT
FITS = "x" * MOST_PROMPT
FUNCTION = {"name": "f", "arguments": LONG}
MESSAGES = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", content(FITS + "x")),
        ("/v1/chat/completions", content([{"type": "text", "text": FITS}, {"type": "text", "text": "x"}])),
        ("/v1/chat/completions", content([{"type": "refusal", "refusal": FITS + "x"}])),
        ("/v1/chat/completions", content("é" * (MOST_PROMPT // 2 + 1))),
        ("/v1/chat/completions", chat(tools=[{"type": "function", "function": {"name": "f", "description": LONG}}])),
        (
            "/v1/chat/completions",
            chat(
                messages=[
                    {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": FUNCTION}]},
                ]
            ),
        ),
        ("/v1/completions", {"model": "llm", "prompt": FITS + "x"}),
        ("/v1/completions", {"model": "llm", "prompt": [FITS] * 4 + ["x"]}),
        ("/v1/responses", {"model": "llm", "input": FITS + "x"}),
        ("/v1/embeddings", {"model": "embeddings", "input": [LONG, "x"]}),
        ("/inference", {"type": "chat", "data": {"prompt": FITS + "x"}}),
        ("/inference", {"type": "embed", "data": {"texts": [LONG, "x"]}}),
    ],
)
async def test_text_is_bounded_in_every_field(
    path: str, body: dict[str, Any], http: httpx2.AsyncClient, service: FakeService
) -> None:
    answer = await http.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert not service.calls


async def test_text_up_to_the_bound_is_accepted(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = as_asked
    assert (await http.post("/v1/chat/completions", json=content(FITS))).status_code == 200
    several = {"model": "llm", "prompt": [FITS] * 3}
    assert (await http.post("/v1/completions", json=several)).status_code == 200


async def test_body_of_a_client_that_has_hung_up_is_not_read_on() -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": bytes(LARGE + 1), "more_body": True}

    scope = {"type": "http", "headers": [], "extensions": {GONE: lambda: True}}
    with pytest.raises(ClientDisconnect):
        await read(Request(scope, receive))
