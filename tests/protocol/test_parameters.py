"""Fields that engines declare: what is taken, what is said of the rest, and the tables in the docs."""

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cohabit.engines.llamacpp.engine import LlamaCpp, LlamaCppOptions
from cohabit.engines.registry import ENGINES, engine_class
from cohabit.protocol.parameters import BadParameter, Declared, parameters_of
from cohabit.protocol.tasks import Task

DOCS = (Path(__file__).parents[2] / "docs" / "engines.md").read_text()
LLAMA = {**parameters_of(LlamaCpp.Parameters[Task.COMPLETE]), **parameters_of(LlamaCpp.Parameters[Task.CHAT])}


def declared(**options: Any) -> Declared:
    checked = LlamaCppOptions(**options)
    return Declared(LlamaCpp.Parameters, LlamaCpp.refused, lambda given: LlamaCpp.check(given, checked))


def read(value: Any, name: str, **options: Any) -> dict[str, Any]:
    raw = value if isinstance(value, bytes) else msgspec.json.encode(value)
    given, others = declared(**options).read(Task.CHAT, {name: raw})
    assert others == []
    return given


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top_k", 40),
        ("min_p", 1),
        ("repeat_last_n", 4096),
        ("repeat_last_n", -1),
        ("dry_sequence_breakers", ["x" * 32] * 8),
        ("samplers", ["top_k", "temperature"]),
        ("n_probs", 20),
        ("chat_template_kwargs", {"enable_thinking": False, "style": "short", "level": 3}),
    ],
)
def test_values_within_the_bounds_are_taken(name: str, value: Any) -> None:
    assert read(value, name) == {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("top_k", -2),
        ("top_k", 1.5),
        ("top_k", "1"),
        ("top_k", b"1e999"),
        ("top_k", b"9" * 5000),
        ("min_p", 1.0001),
        ("min_p", b"NaN"),
        ("repeat_penalty", 0),
        ("repeat_last_n", 4097),
        ("repeat_last_n", 2**31 - 1),
        ("dry_penalty_last_n", 4097),
        ("dry_sequence_breakers", ["x"] * 9),
        ("dry_sequence_breakers", ["x" * 33]),
        ("dry_sequence_breakers", ["é" * 17]),
        ("dry_sequence_breakers", [5]),
        ("samplers", ["top_k", "top_k"]),
        ("samplers", ["unknown"]),
        ("samplers", "kt"),
        ("n_probs", 21),
        ("mirostat", 3),
        ("cache_prompt", 1),
        ("chat_template_kwargs", {"a": {"b": 1}}),
        ("chat_template_kwargs", {"a": "x" * 1024}),
        ("chat_template_kwargs", b'{"a": "\\ud800"}'),
        ("grammar", 5),
        ("grammar", []),
        ("json_schema", {}),
        ("grammar_lazy", True),
        ("grammar_triggers", []),
    ],
)
def test_others_are_refused_and_not_quoted(name: str, value: Any) -> None:
    with pytest.raises(BadParameter) as caught:
        read(value, name)
    assert caught.value.param == name
    assert str(caught.value).startswith(name)


def test_null_is_left_out() -> None:
    assert [read(None, name) for name in (*LLAMA, *LlamaCpp.refused)] == [{}] * (len(LLAMA) + len(LlamaCpp.refused))


def test_grammar_is_accepted_only_if_the_operator_allows_it() -> None:
    simple = 'root ::= "yes" | "no"'
    with pytest.raises(BadParameter, match="not taken"):
        read(simple, "grammar")
    assert read(simple, "grammar", grammar=True) == {"grammar": simple}
    for wrong in ("root ::= " + '"a"? ' * 2000, "x" * (16 << 10) + "x", ""):
        with pytest.raises(BadParameter, match="grammar must"):
            read(wrong, "grammar", grammar=True)


def test_what_is_not_declared_is_named() -> None:
    assert declared().read(Task.COMPLETE, {"chat_template_kwargs": b"{}", "threads": b"[", "top_k": b"1"}) == (
        {"top_k": 1},
        ["chat_template_kwargs", "threads"],
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_every_number_and_text_has_bounds(engine: str) -> None:
    def check(schema: dict[str, Any]) -> None:
        match schema.get("type"):
            case "integer" | "number":
                assert {"minimum", "exclusiveMinimum"} & schema.keys()
                assert "maximum" in schema
            case "string":
                assert {"maxLength", "maxBytes", "enum"} & schema.keys()
            case "array":
                assert "maxItems" in schema
                check(schema["items"])
            case "object":
                assert "maxBytes" in schema or "properties" in schema
                for inner in schema.get("properties", {}).values():
                    check(inner)
        for inner in schema.get("anyOf", []):
            check(inner)

    for task in engine_class(engine).Parameters.values():
        for parameter in parameters_of(task).values():
            check(parameter.schema)
            assert parameter.description, parameter.name


def test_the_tables_in_the_docs_are_right() -> None:
    """``docs/engines.md`` has a row for each, as the declaration has it."""
    rows = [f"| `{name}` | {parameter.words()} | {parameter.description} |" for name, parameter in LLAMA.items()]
    table = "\n".join(["| field | value | |", "|---|---|---|", *rows])
    assert table in DOCS, f"put this into docs/engines.md:\n{table}"
    assert set(re.findall(r"Refused are `(\w+)`, `(\w+)` and `(\w+)`", DOCS)) == {tuple(LlamaCpp.refused)}
