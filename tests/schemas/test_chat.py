"""Chat bodies: what OpenAI's clients send is taken, what no engine could mean is not."""

from typing import Any

import msgspec
import pytest
from msgspec import ValidationError

from cohabit.schemas.chat import MAX_BIASES, ChatRequest

USER = {"role": "user", "content": "hello"}
CALL = {"id": "1", "type": "function", "function": {"name": "weather", "arguments": '{"in":"Oslo"}'}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
SEEN = [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": "data:,x"}}]


def chat(*messages: Any, **fields: Any) -> ChatRequest:
    return msgspec.convert({"model": "llm", "messages": list(messages or [USER]), **fields}, ChatRequest)


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": "be brief"}, USER],
        [{"role": "developer", "content": [{"type": "text", "text": "be brief"}]}, USER],
        [USER, {"role": "assistant", "content": None, "tool_calls": [CALL]}, {"role": "tool", "tool_call_id": "1"}],
        [USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}],
        [{"role": "user", "content": SEEN, "name": "ann"}],
    ],
)
def test_valid_messages_are_accepted(messages: list[Any]) -> None:
    assert len(chat(*messages).messages) == len(messages)


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0, "top_p": 1, "presence_penalty": -2, "frequency_penalty": 2.0},
        {"max_tokens": 1, "max_completion_tokens": 5, "n": 16, "seed": -(2**63)},
        {"stop": "a"},
        {"stop": ["a", "b"]},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"logit_bias": {"50256": -100}, "logprobs": True, "top_logprobs": 20},
        {"tools": [TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}}},
        {"temperature": None, "stop": None, "tools": None},
    ],
)
def test_valid_fields_are_accepted(fields: dict[str, Any]) -> None:
    plain = msgspec.to_builtins(chat(**fields))
    assert {name: plain.get(name) for name in fields} == fields


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 2.1},
        {"temperature": -0.1},
        {"temperature": "1"},
        {"temperature": float("nan")},
        {"top_p": 1.1},
        {"presence_penalty": 2.5},
        {"max_tokens": 0},
        {"n": 17},
        {"n": True},
        {"seed": 2**63},
        {"stop": ["a"] * 17},
        {"stream": "yes"},
        {"logit_bias": {"1": float("inf")}},
        {"logit_bias": {"1": "a"}},
        {"top_logprobs": 21},
        {"tools": [{"type": "function", "function": {"name": ""}}]},
        {"tools": [TOOL] * 257},
        {"tool_choice": "never"},
        {"response_format": {"type": "xml"}},
        {"messages": []},
        {"messages": [{"role": "robot", "content": "x"}]},
        {"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
        {"model": ""},
    ],
)
def test_invalid_fields_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        chat(**fields)


def test_logit_bias_is_accepted_up_to_the_bound() -> None:
    assert len(chat(logit_bias=dict.fromkeys(map(str, range(MAX_BIASES)), 1)).logit_bias or {}) == MAX_BIASES


def test_pictures_have_their_place() -> None:
    seen = chat(USER, {"role": "user", "content": SEEN})
    assert [place for place, _ in seen.pictures()] == ["messages.1.content.1.image_url.url"]
    assert not list(chat(USER, {"role": "user", "content": SEEN[:1]}).pictures())


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (USER, 5),
        ({"role": "user", "content": "é"}, 2),
        ({"role": "user", "content": SEEN}, len("what is this?")),
        ({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, 2),
        ({"role": "assistant", "content": None, "tool_calls": [CALL]}, len('weather{"in":"Oslo"}')),
        ({"role": "assistant", "content": "ok", "tool_calls": [CALL, CALL]}, 2 + 2 * len('weather{"in":"Oslo"}')),
        ({"role": "assistant"}, 0),
    ],
)
def test_text_is_counted_in_bytes(message: dict[str, Any], size: int) -> None:
    assert chat(message).text_bytes() == size
    assert chat(message, message).text_bytes() == 2 * size


def test_tools_count_as_text() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "d" * 100, "parameters": {"p" * 100: 1}}}
    assert chat(tools=[tool]).text_bytes() > 5 + 200
