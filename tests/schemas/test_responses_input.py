"""A response's body as a chat's."""

from typing import Any

import msgspec
import pytest
from msgspec import ValidationError

from cohabit.schemas.chat import ChatRequest
from cohabit.schemas.responses import ResponseRequest
from cohabit.schemas.responses_input import LOGPROBS, chat_of

IMAGE = {"type": "input_image", "image_url": "data:,x", "detail": "low"}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "1", "name": "f", "arguments": "{}", "status": "completed"}
SCHEMA = {"type": "object"}


def asked(given: Any = "hello", **fields: Any) -> ResponseRequest:
    data = ResponseRequest.completed({"model": "llm", "input": given, **fields})
    return msgspec.convert(data, ResponseRequest)


def chat(given: Any = "hello", **fields: Any) -> dict[str, Any]:
    """The chat's body, which is a valid one."""
    body = chat_of(asked(given, **fields))
    msgspec.convert(body, ChatRequest)
    return body


def test_text_becomes_a_user_message() -> None:
    assert chat() == {"model": "llm", "messages": [{"role": "user", "content": "hello"}]}
    assert chat(instructions="brief")["messages"][0] == {"role": "system", "content": "brief"}


def test_items_become_messages_with_their_calls() -> None:
    given = [
        {"role": "user", "content": [{"type": "input_text", "text": "look"}, IMAGE]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hm"}]},
        CALL,
        {**CALL, "call_id": "2"},
        {"type": "function_call_output", "call_id": "1", "output": "noon"},
        {"type": "function_call_output", "call_id": "2", "output": [{"type": "input_text", "text": "night"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        CALL,
    ]
    calls = [{"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}} for name in ("1", "2")]
    image = {"type": "image_url", "image_url": {"url": "data:,x", "detail": "low"}}
    assert chat(given)["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
        {"role": "assistant", "content": [{"type": "text", "text": "hm"}], "tool_calls": calls},
        {"role": "tool", "tool_call_id": "1", "content": "noon"},
        {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "night"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}], "tool_calls": calls[:1]},
    ]
    assert list(asked(given).pictures()) == [("input.0.content.1.image_url", "data:,x")]


def test_calls_of_two_messages_stay_apart() -> None:
    turns = chat([CALL, {"type": "function_call_output", "call_id": "1", "output": "x"}, CALL, CALL])["messages"]
    assert [len(turn.get("tool_calls", [])) for turn in turns] == [1, 0, 2]


def test_parameters_get_the_names_of_a_chat() -> None:
    tool = {"type": "function", "name": "f", "parameters": SCHEMA, "strict": True}
    body = chat(
        max_output_tokens=5,
        temperature=0,
        top_p=1,
        tools=[tool],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
        text={"format": {"type": "json_schema", "name": "n", "schema": SCHEMA, "strict": True}},
        include=[LOGPROBS, "reasoning.encrypted_content"],
        top_logprobs=2,
        stream=True,
        stream_options={"include_obfuscation": False},
        seed=3,
        store=True,
        reasoning={"effort": "low"},
    )
    del body["messages"]
    assert body == {
        "model": "llm",
        "max_completion_tokens": 5,
        "temperature": 0,
        "top_p": 1,
        "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "parallel_tool_calls": False,
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
        "logprobs": True,
        "top_logprobs": 2,
        "stream": True,
        "stream_options": {"include_usage": True},
        "seed": 3,
    }


@pytest.mark.parametrize("form", ["text", "json_object"])
def test_formats_without_a_schema_are_kept(form: str) -> None:
    assert chat(text={"format": {"type": form}})["response_format"] == {"type": form}


@pytest.mark.parametrize(
    "given",
    [
        [],
        None,
        [{"role": "tool", "content": "x"}],
        [{"type": "item_reference", "id": "x"}],
        [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}],
        [{"role": "user", "content": [{"type": "input_image", "file_id": "x"}]}],
        [{"type": "function_call_output", "output": "x"}],
        ["x"],
    ],
)
def test_invalid_input_is_refused(given: Any) -> None:
    with pytest.raises(ValidationError):
        asked(given)
