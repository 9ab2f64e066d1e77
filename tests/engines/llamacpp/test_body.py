"""What llama.cpp is asked, and what it is spared."""

from typing import Any

import pytest

from cohabit.engines.llamacpp.body import TOKENS, RequestTranslator
from cohabit.engines.per_item import BadItem

USER = {"role": "user", "content": "hello"}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}


def asking(*, knows_tools: bool = False, usable: bool = True) -> RequestTranslator:
    return RequestTranslator("llm", choices=4, knows_tools=knows_tools, usable=lambda _grammar: usable)


def chat(knows_tools: bool = False, **fields: Any) -> dict[str, Any]:
    """What it is asked for a chat."""
    return asking(knows_tools=knows_tools).chat({"model": "llm", "messages": [USER], **fields})[0]


def complete(**fields: Any) -> dict[str, Any]:
    """What it is asked for a completion."""
    return asking().complete({"model": "llm", "prompt": "Once", **fields})[0]


def test_other_fields_pass_unchanged() -> None:
    asked = chat(temperature=0.5, top_k=3, stop=["a"])
    assert asked.items() >= {"temperature": 0.5, "top_k": 3, "stop": ["a"]}.items()
    assert asked["messages"] == [USER]
    assert asked["stream"] is True


def test_grammar_is_converted_and_tried() -> None:
    asked = chat(grammar='root ::= "x"')
    assert asked["grammar"] == '%llguidance {}\nstart: "x"\n'
    for usable, grammar in ((False, 'root ::= "x"'), (True, "root ::= x")):
        with pytest.raises(BadItem, match="grammar"):
            asking(usable=usable).complete({"prompt": "Once", "grammar": grammar})


@pytest.mark.parametrize("seed", [0, 7, -1, 2**32 - 1, 2**63 - 1, -(2**63)])
def test_missing_seed_stays_missing(seed: int) -> None:
    assert 0 <= chat(seed=seed)["seed"] < 2**31
    assert "seed" not in chat()


def test_roles_and_parts_are_adapted_to_templates() -> None:
    parts = [{"type": "refusal", "refusal": "no"}, {"type": "text", "text": "b"}]
    asked = chat(messages=[{"role": "developer", "content": "brief"}, {"role": "assistant", "content": parts}])
    assert asked["messages"][0] == {"role": "system", "content": "brief"}
    assert asked["messages"][1]["content"] == [{"type": "text", "text": "no"}, {"type": "text", "text": "b"}]


def test_tools_go_into_the_prompt_and_the_grammar() -> None:
    asked = chat(tools=TOOLS, tool_choice="required", parallel_tool_calls=False)
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & set(asked)
    assert asked["messages"][0]["role"] == "system"
    assert asked["grammar"].startswith("%llguidance")
    assert asked["chat_template_kwargs"] == {"enable_thinking": False}


def test_a_template_that_knows_tools_is_left_to_it_unless_a_call_is_forced() -> None:
    asked = chat(knows_tools=True, tools=TOOLS)
    assert asked["tools"] == TOOLS
    assert "grammar" not in asked
    assert "tool_choice" not in chat(knows_tools=True)
    forced = chat(knows_tools=True, tools=TOOLS, tool_choice="required")
    assert (forced["tools"], forced["tool_choice"], forced["messages"]) == (TOOLS, "none", [USER])
    assert "call0" in forced["grammar"]


def test_a_schema_is_a_grammar_and_json_is_llama_cpps_own() -> None:
    asked = chat(response_format=SCHEMA)
    assert "response_format" not in asked
    assert "%json" in asked["grammar"]
    assert chat(response_format={"type": "json_object"})["response_format"] == {"type": "json_object"}
    assert "%json" in chat(response_format={"type": "json_object", "schema": {}})["grammar"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 5}, "n"),
        ({"tools": TOOLS, "logprobs": True}, "logprobs"),
        ({"tools": TOOLS, "response_format": SCHEMA}, "response_format"),
        ({"response_format": SCHEMA, "grammar": 'root ::= "x"'}, "grammar"),
    ],
)
def test_unsupported_chat_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadItem) as refused:
        chat(**fields)
    assert refused.value.error(1).param == param


@pytest.mark.parametrize(
    ("fields", "param"), [({"tools": TOOLS}, "tools"), ({"response_format": SCHEMA}, "response_format")]
)
def test_unusable_schema_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadItem) as refused:
        asking(usable=False).chat({"messages": [USER], **fields})
    assert refused.value.error(1).param == param


def test_completions_have_openais_length() -> None:
    assert complete()["max_tokens"] == TOKENS
    assert complete(max_tokens=3, logprobs=0).items() >= {"max_tokens": 3, "logprobs": 1}.items()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": ["a", ""]}, "prompt"),
        ({"prompt": [1, 2], "echo": True}, "echo"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"n": 5}, "n"),
    ],
)
def test_unsupported_completion_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadItem) as refused:
        complete(**fields)
    assert refused.value.error(1).param == param
