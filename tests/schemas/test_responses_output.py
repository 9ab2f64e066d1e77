"""A chat's answer as a response, as OpenAI's own client reads it."""

import json
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from cohabit.schemas.responses import ResponseRequest
from cohabit.schemas.responses_output import Event, ResponseEvents

EVENT: TypeAdapter[ResponseStreamEvent] = TypeAdapter(ResponseStreamEvent)
USAGE = {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": True}


def telling(**fields: Any) -> ResponseEvents:
    return ResponseEvents(msgspec.convert({"model": "gpt", "input": "hello", **fields}, ResponseRequest), "llm")


def chunk(finish: str | None = None, logprobs: Any = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish, "logprobs": logprobs}]}


def call(index: int, name: str | None = None, arguments: str = "") -> dict[str, Any]:
    head = {} if name is None else {"id": f"call_{index}", "type": "function"}
    function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
    return chunk(tool_calls=[{"index": index, **head, "function": function}])


def events(told: ResponseEvents, chunks: Iterable[dict[str, Any]]) -> list[Event]:
    """All of them, each as it was when it was sent, and each as OpenAI's client takes it."""
    found = [json.loads(json.dumps(event)) for event in told.begin()]
    for one in chunks:
        found += [json.loads(json.dumps(event)) for event in told.on_chunk(one)]
    found += [json.loads(json.dumps(event)) for event in told.end()]
    for event in found:
        assert EVENT.validate_python(event, strict=False).type == event["type"]
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def test_text_has_openais_order_of_events() -> None:
    chunks = [chunk(role="assistant", content=""), chunk(content="Hel"), chunk(content="lo"), chunk("stop")]
    found = events(telling(), [*chunks, {"choices": [], "usage": USAGE}])
    assert [event["type"] for event in found] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert (found[0]["response"]["status"], found[0]["response"]["output"]) == ("in_progress", [])
    assert (found[2]["item"]["status"], found[2]["item"]["content"]) == ("in_progress", [])
    assert found[3]["part"]["text"] == ""
    assert found[6]["text"] == found[7]["part"]["text"] == "Hello"
    assert len({event["item_id"] for event in found if "item_id" in event} | {found[2]["item"]["id"]}) == 1
    last = Response.model_validate(found[-1]["response"])
    assert (last.output_text, last.status, last.model) == ("Hello", "completed", "llm")
    assert last.usage is not None
    assert (last.usage.input_tokens, last.usage.output_tokens, last.usage.total_tokens) == (2, 3, 5)


def test_text_and_two_calls_are_separate_items() -> None:
    chunks = [chunk(content="hm"), call(0, "f", "{"), call(0, arguments="}"), call(1, "g"), call(1, arguments="{}")]
    found = events(telling(tools=[TOOL]), [*chunks, chunk("tool_calls")])
    assert [(event["type"], event.get("output_index")) for event in found[2:-1]] == [
        ("response.output_item.added", 0),
        ("response.content_part.added", 0),
        ("response.output_text.delta", 0),
        ("response.output_text.done", 0),
        ("response.content_part.done", 0),
        ("response.output_item.done", 0),
        ("response.output_item.added", 1),
        ("response.function_call_arguments.delta", 1),
        ("response.function_call_arguments.delta", 1),
        ("response.function_call_arguments.done", 1),
        ("response.output_item.done", 1),
        ("response.output_item.added", 2),
        ("response.function_call_arguments.delta", 2),
        ("response.function_call_arguments.done", 2),
        ("response.output_item.done", 2),
    ]
    output = found[-1]["response"]["output"]
    assert [(item["type"], item.get("name"), item.get("arguments")) for item in output] == [
        ("message", None, None),
        ("function_call", "f", "{}"),
        ("function_call", "g", "{}"),
    ]
    assert {item["status"] for item in output} == {"completed"}


@pytest.mark.parametrize("one", [chunk(content="hm"), call(0, "f", "{")])
def test_truncated_answer_is_incomplete(one: dict[str, Any]) -> None:
    last = events(telling(max_output_tokens=1), [one, chunk("length")])[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["incomplete_details"] == {"reason": "max_output_tokens"}
    assert last["response"]["output"][0]["status"] == "incomplete"


@pytest.mark.parametrize(
    ("status", "code"), [(503, "server_error"), (429, "rate_limit_exceeded"), (400, "invalid_prompt")]
)
def test_failure_ends_the_stream_with_a_known_code(status: int, code: str) -> None:
    told = telling()
    error = {"message": "it ended", "code": "ours"}
    found = [*told.begin(), *told.on_chunk(chunk(content="hm")), *told.fail(status, error)]
    assert EVENT.validate_python(found[-1]).type == "response.failed"
    assert found[-1]["response"]["error"] == {"code": code, "message": "it ended", "cause": "ours"}
    assert found[-1]["response"]["output"][0]["status"] == "incomplete"


def test_plain_answer_equals_the_last_event() -> None:
    logprob = {"token": "a", "bytes": [97], "logprob": -1.0, "top_logprobs": []}
    calls = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    choice = {
        "message": {"role": "assistant", "content": "hm", "tool_calls": calls},
        "logprobs": {"content": [logprob]},
        "finish_reason": "tool_calls",
    }
    whole = Response.model_validate(telling().whole({"choices": [choice], "usage": USAGE}))
    assert whole.output_text == "hm"
    assert [item.type for item in whole.output] == ["message", "function_call"]
    assert whole.model_dump()["output"][0]["content"][0]["logprobs"] == [logprob]


def test_response_repeats_the_request() -> None:
    form = {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
    choice = {"type": "function", "name": "f"}
    asked = {"tools": [TOOL], "tool_choice": choice, "text": {"format": form}, "store": True, "temperature": 0.5}
    response = Response.model_validate(telling(**asked, metadata={"a": "b"}, instructions="brief").response)
    found = response.model_dump(by_alias=True, exclude_none=True)
    assert found["store"] is False
    assert found.items() >= {"temperature": 0.5, "instructions": "brief", "metadata": {"a": "b"}}.items()
    assert (found["tool_choice"], found["text"]["format"]) == (choice, form)
    assert found["tools"][0].items() >= TOOL.items()
