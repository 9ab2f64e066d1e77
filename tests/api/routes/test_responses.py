"""``/v1/responses`` over a chat."""

import json
from typing import Any

import httpx2
import pytest

from api.fake_service import CANARY, CHAT_ANSWER, FakeService, Served, at_once, failing, rejected
from cohabit.core.commands import RejectReason
from cohabit.protocol.engine import ItemError
from cohabit.protocol.tasks import Task
from cohabit.runtime.requests import ModelRequest, ResponseFailed, ResponseStream
from samples import data_url, picture

PATH = "/v1/responses"
HELLO: dict[str, Any] = {"model": "gpt-4o-mini", "input": "hello"}
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}
CHUNKS = [
    json.dumps({"choices": [{"index": 0, "delta": {"content": "Hi!"}, "finish_reason": finish}]}).encode()
    for finish in (None, "stop")
]


def told(answer: httpx2.Response) -> list[dict[str, Any]]:
    """The events, whose names are their types."""
    events = []
    for event in answer.text.removesuffix("\n\n").split("\n\n"):
        name, data = event.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


async def test_plain_answer(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = at_once(CHAT_ANSWER)
    answer = await http.post(PATH, json=HELLO)
    assert answer.status_code == 200
    body = answer.json()
    assert body["output"][0]["content"][0]["text"] == "Hi!"
    assert (body["object"], body["status"], body["model"]) == ("response", "completed", "llm")
    assert body["usage"]["input_tokens"] == 3
    assert "x-cohabit-run-ms" in answer.headers
    (call,) = service.calls
    assert (call.model, call.task) == ("llm", Task.CHAT)
    assert json.loads(call.body) == {"model": "llm", "messages": [{"role": "user", "content": "hello"}]}


async def test_stream_has_typed_events(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = at_once(*CHUNKS)
    answer = await http.post(PATH, json={**HELLO, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = told(answer)
    assert [event["type"] for event in events][:3] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
    ]
    assert events[-1]["type"] == "response.completed"
    assert events[-1]["response"]["output"][0]["content"][0]["text"] == "Hi!Hi!"
    assert json.loads(service.calls[0].body)["stream_options"] == {"include_usage": True}


async def test_failure_before_the_first_event_has_its_status(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = failing(rejected(RejectReason.QUEUE_FULL))
    for body in (HELLO, {**HELLO, "stream": True}):
        answer = await http.post(PATH, json=body)
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")


async def test_failure_in_the_middle_is_the_last_event(http: httpx2.AsyncClient, service: FakeService) -> None:
    def reply(_call: ModelRequest, answer: ResponseStream) -> None:
        answer.put(CHUNKS[0])
        answer.fail(rejected(RejectReason.WORKER_DIED))

    service.reply = reply
    events = told(await http.post(PATH, json={**HELLO, "stream": True}))
    assert events[-1]["type"] == "response.failed"
    error = events[-1]["response"]["error"]
    assert (error["code"], error["cause"]) == ("server_error", "worker_died")


async def test_engine_error_names_the_field_of_the_request(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = failing(ResponseFailed(error=ItemError(1, "cannot", param="response_format")))
    for body in (HELLO, {**HELLO, "stream": True}):
        assert (await http.post(PATH, json=body)).json()["error"]["param"] == "text.format"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"previous_response_id": CANARY}, "previous_response_id"),
        ({"conversation": {"id": CANARY}}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": CANARY}}, "prompt"),
        ({"truncation": "auto"}, "truncation"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tools": [TOOL, {"type": CANARY}]}, "tools.1.type"),
    ],
)
async def test_unsupported_field_is_refused(fields: dict[str, Any], param: str, served: Served) -> None:
    answer = await served.http.post(PATH, json={**HELLO, **fields})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", param)
    assert CANARY not in answer.text
    assert served.service.calls == []


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools.0.name"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"input": [{"role": "user"}]}, "input.0.content"),
        ({"input": [{"role": "user", "content": [{"type": CANARY}]}]}, "input.0.content.0.type"),
        ({"messages": []}, "messages"),
        ({"n": 2}, "n"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"seed": CANARY}, "seed"),
    ],
)
async def test_inconsistent_request_is_refused(fields: dict[str, Any], param: str, http: httpx2.AsyncClient) -> None:
    answer = await http.post(PATH, json={**HELLO, **fields})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_request", param)
    assert CANARY not in answer.text


async def test_too_much_text_is_refused(http: httpx2.AsyncClient) -> None:
    answer = await http.post(PATH, json={**HELLO, "instructions": "a" * (1 << 20)})
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert answer.json()["error"]["param"] == "input"


async def test_pictures_need_a_model_that_sees(http: httpx2.AsyncClient, service: FakeService) -> None:
    service.reply = at_once(CHAT_ANSWER)
    parts = [{"type": "input_image", "image_url": data_url(picture())}]
    body = {"model": "labels", "input": [{"role": "user", "content": parts}], "temperature": 0}
    seen = await http.post(PATH, json=body)
    assert seen.status_code == 200
    assert seen.headers["x-cohabit-warning"] == "labels ignores temperature"
    blind = (await http.post(PATH, json={**body, "model": "llm"})).json()["error"]
    assert (blind["code"], blind["param"]) == ("unsupported_content", "input")
    parts[0]["image_url"] = "data:image/png;base64,AAAA"
    broken = (await http.post(PATH, json=body)).json()["error"]
    assert (broken["code"], broken["param"]) == ("invalid_image", "input.0.content.0.image_url")


async def test_unsupported_parameter_has_the_name_that_responses_use(http: httpx2.AsyncClient) -> None:
    parts = [{"type": "input_image", "image_url": data_url(picture())}]
    body = {"model": "labels", "input": [{"role": "user", "content": parts}]}
    form = {"format": {"type": "json_object"}}
    for fields, param in (
        ({"text": form}, "text.format"),
        ({"include": ["message.output_text.logprobs"]}, "include"),
    ):
        error = (await http.post(PATH, json={**body, **fields})).json()["error"]
        assert (error["code"], error["param"]) == ("unsupported_parameter", param)
