"""Grammars in llguidance's language; that llama.cpp holds to them is in test_llamacpp."""

import json

from cohabit.engines import grammars


def test_a_trial_begins_with_the_mark_and_goes_on_as_it_was() -> None:
    grammar = grammars.of_answer({"type": "string", "description": "start: "})
    lines = grammars.trial(grammar).splitlines()
    assert lines[:2] == ["%llguidance {}", f'start: "{grammars.MARK}" wanted']
    assert lines[2] == grammar.splitlines()[1].replace("start", "wanted", 1)


def test_a_call_has_a_rule_and_its_own_schema() -> None:
    schema = {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object"}}}
    lines = grammars.of_calls([{"name": "a", "parameters": schema}, {"name": "b"}], forced=True).splitlines()
    assert lines[1] == "start: call0 | call1"
    assert lines[2] == 'call0: "{\\"name\\": \\"a\\", \\"arguments\\": " arguments0 "}"'
    assert json.loads(lines[3].partition("%json ")[2])["$defs"] == schema["$defs"]
    assert json.loads(lines[5].partition("%json ")[2])["additionalProperties"] is False


def test_text_is_let_through_where_no_call_is_forced() -> None:
    assert "| text" in grammars.of_calls([{"name": "a"}], forced=False)
