"""Calls told in words and read back from text, as llama.cpp streams it."""

import json
from typing import Any

import pytest

from cohabit.engines.llamacpp.grammars import opening
from cohabit.engines.llamacpp.tool_calls import Offer, ToolCallReader, plain_turns

WEATHER = {"name": "weather", "description": "of a city", "parameters": {"type": "object"}}
CLOCK = {"name": "clock"}
OFFER = Offer((WEATHER, CLOCK), forced=False)
CALL = opening("weather") + '{"in": {"city": "Oslo"}}' + "}"


def tools(choice: Any = None) -> dict[str, Any]:
    """A chat's fields."""
    return {"tools": [{"type": "function", "function": one} for one in (WEATHER, CLOCK)], "tool_choice": choice}


def read(*texts: str, finish: str = "stop", offer: Offer = OFFER) -> tuple[str, list[dict[str, Any]], str]:
    """Text, calls and the reason that the pieces add up to."""
    reader, content, calls = ToolCallReader(offer), "", []
    ends: list[dict[str, Any]] = [{"delta": {"content": text}} for text in texts]
    for choice in [{"delta": {"role": "assistant", "content": None}}, *ends, {"delta": {}, "finish_reason": finish}]:
        reader.read(choice)
        content += choice["delta"].get("content") or ""
        for call in choice["delta"].get("tool_calls") or []:
            if "id" in call:
                calls.append({"name": call["function"]["name"], "arguments": ""})
            calls[-1]["arguments"] += call["function"]["arguments"]
    return content, calls, str(choice["finish_reason"])


@pytest.mark.parametrize(
    ("fields", "names", "forced"),
    [
        (tools(), ["weather", "clock"], False),
        (tools("auto"), ["weather", "clock"], False),
        (tools("required"), ["weather", "clock"], True),
        (tools({"type": "function", "function": {"name": "clock"}}), ["clock"], True),
    ],
)
def test_offered_tools_depend_on_tool_choice(fields: dict[str, Any], names: list[str], forced: bool) -> None:
    offer = Offer.of(fields)
    assert offer is not None
    assert [function["name"] for function in offer.functions] == names
    assert offer.forced == forced


@pytest.mark.parametrize("fields", [{}, {"tools": []}, {"tools": None}, tools("none")])
def test_no_tools_are_offered(fields: dict[str, Any]) -> None:
    assert Offer.of(fields) is None


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_call_is_parsed_from_any_chunks(size: int) -> None:
    pieces = [CALL[start : start + size] for start in range(0, len(CALL), size)]
    content, calls, finish = read(*pieces)
    assert (content, finish) == ("", "tool_calls")
    assert calls == [{"name": "weather", "arguments": '{"in": {"city": "Oslo"}}'}]


@pytest.mark.parametrize("text", ["It is sunny.", "", '{"name": "other', '{"name": "weather"', "{"])
def test_other_output_is_text(text: str) -> None:
    assert read(*text) == (text, [], "stop")


def test_a_call_that_is_cut_off_keeps_its_end_and_its_reason() -> None:
    content, calls, finish = read(opening("clock"), '{"in": {"a": 1}', finish="length")
    assert (content, finish) == ("", "length")
    assert calls == [{"name": "clock", "arguments": '{"in": {"a": 1}'}]


def test_a_call_that_is_whole_at_the_last_token_is_a_call() -> None:
    assert read(CALL, finish="length")[2] == "tool_calls"


def test_a_conversation_in_plain_turns() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
    turns = plain_turns(
        [
            {"role": "system", "content": [{"type": "text", "text": "Be brief."}]},
            {"role": "user", "content": "When?"},
            {"role": "assistant", "content": None, "tool_calls": [call, call]},
            {"role": "tool", "tool_call_id": "1", "content": "noon"},
            {"role": "tool", "tool_call_id": "1", "content": "night"},
        ],
        OFFER,
    )
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user"]
    assert turns[0]["content"].startswith("Be brief.\n\n")
    assert json.dumps(WEATHER) in turns[0]["content"]
    assert turns[2]["content"] == '{"name": "clock", "arguments": {}}\n{"name": "clock", "arguments": {}}'
    assert turns[3] == {"role": "user", "content": "The function answered:\nnoon\nThe function answered:\nnight"}


def test_tools_are_left_out_of_the_prompt_if_none_may_be_called() -> None:
    turns = [{"role": "user", "content": "When?"}]
    assert plain_turns(turns, None) == turns
    assert plain_turns(turns, OFFER)[0]["role"] == "system"
