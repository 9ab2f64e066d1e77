"""Schemas are bounded by a walk, before anything is made of them."""

import time
from typing import Any

import pytest

from cohabit.schemas.json_schemas import MAX_DEPTH, MAX_NAMES, MAX_PATTERN, MAX_REPEATED, BadSchema, Schema, check

TEXT: Schema = {"type": "string"}


def array(items: Any, **more: Any) -> Schema:
    return {"type": "array", "items": items, **more}


def record(required: Any = False, **properties: Any) -> Schema:
    return {"type": "object", "properties": properties, **({"required": [*properties]} if required else {})}


def nested(depth: int) -> Schema:
    schema = TEXT
    for _ in range(depth):
        schema = record(a=schema)
    return schema


def chained(length: int, schema: Any) -> Schema:
    """Definitions of which each is made of the next."""
    parts = {f"a{number}": schema({"$ref": f"#/$defs/a{number + 1}"}) for number in range(length)}
    return {"$defs": {**parts, f"a{length}": TEXT}, "$ref": "#/$defs/a0"}


def choices(count: int) -> Schema:
    return {"anyOf": [{"const": number} for number in range(count)]}


TAKEN: dict[str, Schema] = {
    "nothing": {},
    "counts up to the bound": array(array(TEXT, maxItems=100), maxItems=MAX_REPEATED // 100),
    "a long text": {"type": "string", "maxLength": MAX_REPEATED},
    "depth up to the bound": nested(MAX_DEPTH),
    "properties up to the bound": record(**{f"p{number}": TEXT for number in range(MAX_NAMES)}),
    "properties of all kinds of names": record(**{"properties": TEXT, "items": TEXT, "$ref": TEXT, "enum": TEXT}),
    "a pattern": {"type": "string", "pattern": r"^[a-z]{1,100}-(\d{4}|[^\]{9}]{2,3})$"},
    "a list that links": record(True, value=TEXT, next={"anyOf": [{"$ref": "#"}, {"type": "null"}]}),
    "a tree": record(True, children=array({"$ref": "#"}, maxItems=4)),
    "definitions": chained(10, lambda inner: record(True, a=inner, b=TEXT)),
    "a reference into a list": {"anyOf": [TEXT, {"$ref": "#/anyOf/0"}]},
    "a reference with an odd name": {"$defs": {"a/b~c": TEXT}, "$ref": "#/$defs/a~1b~0c"},
    "what inherits": {"allOf": [choices(10), record(a=TEXT)]},
    "true and false": record(a=True, b=False),
    "a tuple": {"type": "array", "prefixItems": [TEXT, TEXT], "items": False, "minItems": 2},
}
REFUSED: dict[str, Schema] = {
    "a count": array(TEXT, minItems=60_000, maxItems=900_000),
    "a count without end": array(TEXT, minItems=10**300),
    "a long text": {"type": "string", "minLength": MAX_REPEATED + 1},
    "counts that multiply": array(array(TEXT, maxItems=101), maxItems=100),
    "counts of texts in arrays": array({"type": "string", "maxLength": 101}, maxItems=100),
    "counts that multiply by references": chained(3, lambda inner: array(inner, maxItems=100)),
    "counts of entries": {"type": "object", "additionalProperties": array(TEXT, maxItems=200), "maxProperties": 200},
    "a repetition in a pattern": {"type": "string", "pattern": "a{20000}"},
    "repetitions that multiply in a pattern": {"type": "string", "pattern": "((a{0,50}){0,50}){0,50}"},
    "repetitions that add up in a pattern": {"type": "string", "pattern": "(ab){999}" * 100},
    "a long pattern": {"type": "string", "pattern": "é" * (MAX_PATTERN // 2 + 1)},
    "a pattern of names": {"type": "object", "patternProperties": {"a{99999}": TEXT}},
    "depth": nested(MAX_DEPTH + 1),
    "properties": record(**{f"p{number}": TEXT for number in range(MAX_NAMES + 1)}),
    "values": {"enum": [*range(MAX_NAMES + 1)]},
    "properties and values": record(**{f"p{number}": {"enum": ["a"]} for number in range(MAX_NAMES // 2 + 1)}),
    "bytes": {"description": "x" * (64 << 10)},
    "definitions that double": chained(40, lambda inner: record(a=inner, b=inner)),
    "choices that multiply": {"allOf": [choices(10)] * 8},
    "a loop": {"$ref": "#"},
    "a loop of two": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "a loop by a choice": {"anyOf": [{"$ref": "#"}, TEXT]},
    "a loop deep inside": record(a={"allOf": [{"$ref": "#/properties/a"}]}),
    "an object in itself": record(True, a={"$ref": "#"}),
    "an array in itself": array({"$ref": "#"}, minItems=1),
    "a pair of itself": {"type": "array", "prefixItems": [{"$ref": "#"}], "minItems": 1},
    "no choice": {"enum": []},
    "false": {"allOf": [False]},
    "elsewhere": {"$ref": "http://localhost/schema"},
    "a file": {"$ref": "file:///etc/passwd"},
    "nothing there": {"$ref": "#/$defs/a"},
    "an anchor": {"$ref": "#a"},
    "a dynamic one": {"$dynamicRef": "#"},
    "a chain without end": chained(900, lambda inner: inner),
    "a far number": {"type": "integer", "minimum": -1e300},
    "no number": array(TEXT, maxItems="9"),
    "a number below 0": array(TEXT, minItems=-1),
    "half a number": array(TEXT, minItems=0.5),
    "no schema": array(5),
    "no object": {"properties": 5},
    "no array": {"anyOf": TEXT},
    "hidden where no schema is": {"x": {"pattern": "a" * 2000}, "$ref": "#/x"},
}


@pytest.mark.parametrize("schema", TAKEN.values(), ids=TAKEN)
def test_schema_within_the_bounds_is_accepted(schema: Schema) -> None:
    check(schema)


@pytest.mark.parametrize("schema", REFUSED.values(), ids=REFUSED)
def test_schema_over_a_bound_is_refused_at_once(schema: Schema) -> None:
    began = time.thread_time()
    with pytest.raises(BadSchema) as caught:
        check(schema)
    assert time.thread_time() - began < 0.5, "it takes some hundredths of a second"
    assert str(caught.value).startswith(("must ", "cannot be satisfied"))


@pytest.mark.parametrize(
    "pattern",
    [
        "^a{ 100000 }$",
        "^a{0000000000100000}$",
        "^a{1,\u00a099999999999999999999}$",
        "^(a{ 200 }){ 200 }$",
        "^(?x)(a{200}) {200}$",
        "^(?ix:(a{200}) {200})$",
    ],
)
def test_every_form_of_repetition_counts(pattern: str) -> None:
    with pytest.raises(BadSchema):
        check({"type": "string", "pattern": pattern})


@pytest.mark.parametrize("choice", ["anyOf", "oneOf", "allOf"])
def test_branches_are_counted_once_each(choice: str) -> None:
    """Fifteen levels of ten ways each would take years to count."""
    parts = {f"a{number}": {choice: [{"$ref": f"#/$defs/a{number + 1}"}] * 10} for number in range(15)}
    began = time.thread_time()
    with pytest.raises(BadSchema, match="parts"):
        check({"$defs": {**parts, "a15": {}}, "allOf": [{"$ref": "#/$defs/a0"}, {"$ref": "#/$defs/a0"}]})
    assert time.thread_time() - began < 1.0


@pytest.mark.parametrize(
    "schema",
    [
        chained(1500, lambda inner: inner),
        chained(900, lambda inner: record(a=inner)),
        {"anyOf": [{}], "$ref": "#/anyOf/" + "1" * 5000},
    ],
)
def test_references_nested_too_deeply_are_refused(schema: Schema) -> None:
    with pytest.raises(BadSchema):
        check(schema)
