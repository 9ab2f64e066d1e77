"""Grammars in llguidance's language; that llama.cpp holds to them is in test_llamacpp."""

import json
from typing import Any

from cohabit.engines.llamacpp import grammars


def test_a_trial_begins_with_the_mark_and_goes_on_as_it_was() -> None:
    grammar = grammars.of_answer({"type": "string", "description": "start: "}, strict=False)
    lines = grammars.trial(grammar).splitlines()
    assert lines[:2] == ["%llguidance {}", f'start: "{grammars.MARK}" wanted']
    assert lines[2] == grammar.splitlines()[1].replace("start", "wanted", 1)


def test_a_call_has_a_rule_and_its_own_schema() -> None:
    schema = {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object"}}}
    functions: list[dict[str, Any]] = [{"name": "a", "parameters": schema, "strict": True}, {"name": "b"}]
    lines = grammars.of_calls(functions, forced=True).splitlines()
    assert lines[1] == "start: call0 | call1"
    assert lines[2] == 'call0: "{\\"name\\": \\"a\\", \\"arguments\\": " arguments0 "}"'
    first, second = (json.loads(lines[number].partition("%json ")[2]) for number in (3, 5))
    assert first["$defs"] == schema["$defs"]
    assert second["additionalProperties"] is False
    assert (first["x-guidance"]["lenient"], second["x-guidance"]["lenient"]) == (False, True)


def test_text_is_let_through_where_no_call_is_forced() -> None:
    assert "| text" in grammars.of_calls([{"name": "a"}], forced=False)
