"""Random requests, made from what routes and engines declare: values within bounds, just outside, and odd ones."""

import json
from collections.abc import Mapping
from random import Random
from typing import Any

import msgspec

from cohabit.engines.registry import engine_class
from cohabit.protocol.parameters import parameters_of
from cohabit.protocol.tasks import Task

JsonSchema = Mapping[str, Any]

ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**31,
    2**63,
    2**64,
    1e308,
    -0.5,
    "",
    "\x00",
    "é" * 40,
    [],
    [[]],
    {},
    {"a": 1},
)
GRAMMARS = (
    'root ::= "yes" | "no"',
    "root ::= [a-z]{1,1000}",
    "root ::= " + "(" * 64 + '"a"' + ")" * 64,
    "root ::= " + " ".join(['"a"?'] * 900) + ' "b"',
    "root ::= " + " | ".join(f'"w{number}"' for number in range(900)),
    'root ::= "a" root "b" | "a" root "c" | "d"',
    'root ::= ("a" | "b"){0,1000}',
    "root ::= (" + " | ".join(["[a-z]{0,9}"] * 100) + "){1,9}",
    "root ::= x",
    'root ::= "',
    "root ::= .*",
    "root ::= <think>",
)
PATTERNS = (
    "a", "^(a|aa|aaa|aaaa)*b$", "(a|b)*a(a|b){20}", "[^a]{1,1000}", r"\d{4}-\d{2}", "(x+x+)+y",
    "((a{0,9}){0,9}){0,9}",
    "(?=a)b", "(", "a{2,1}", "\\p{L}{1,500}", ".{0,5000}", "(a?){90}a{90}", "[\\s\\S]*",
)  # fmt: skip


def fields(kind: type[msgspec.Struct], engine: str, task: Task) -> dict[str, JsonSchema]:
    """JSON schemas by field: those of the route, and those of the engine."""
    found: dict[str, JsonSchema] = dict(inlined(msgspec.json.schema(kind))["properties"])
    declared = engine_class(engine).Parameters
    if task in declared:
        found |= {name: parameter.schema for name, parameter in parameters_of(declared[task]).items()}
    return found


def inlined(schema: Any, parts: JsonSchema | None = None) -> Any:
    """Without references."""
    if isinstance(schema, list):
        return [inlined(one, parts) for one in schema]
    if not isinstance(schema, dict):
        return schema
    parts = schema.get("$defs", {}) if parts is None else parts
    if "$ref" in schema:
        return inlined(parts[schema["$ref"].rpartition("/")[2]], parts)
    return {name: inlined(value, parts) for name, value in schema.items() if name not in ("$defs", "discriminator")}


def changed(random: Random, base: Mapping[str, Any], known: Mapping[str, JsonSchema]) -> dict[str, Any]:
    """A good request of which up to four fields have other values."""
    names = random.sample(sorted(known.keys() - {"model"}), random.randint(1, 4))
    return {**base, **{name: field_value(random, name, known[name]) for name in names}}


def field_value(random: Random, name: str, schema: JsonSchema) -> Any:
    """Of one field; those that hold languages of their own have values that mean something."""
    match name:
        case "grammar" if random.random() < 0.9:
            return random.choice(GRAMMARS)
        case "response_format" if random.random() < 0.8:
            inner = {"name": "n", "schema": json_schema(random), "strict": random.random() < 0.3}
            return {"type": "json_schema", "json_schema": inner}
        case "tools" if random.random() < 0.8:
            return [
                {
                    "type": "function",
                    "function": {
                        "name": f"f{number}",
                        "parameters": {"type": "object", "properties": {"a": json_schema(random)}},
                    },
                }
                for number in range(random.choice([1, 1, 3, 20]))
            ]
        case "chat_template_kwargs" if random.random() < 0.7:
            return {random.choice(["enable_thinking", "messages", "tools", "a"]): random.choice([True, 5, "x" * 900])}
    return value(random, schema)


def value(random: Random, schema: JsonSchema, depth: int = 0) -> Any:
    """Mostly of the type, near to its bounds."""
    if random.random() < 0.15 or depth > 5 or not isinstance(schema, Mapping):
        return random.choice(ODD)
    if branches := schema.get("anyOf") or schema.get("oneOf"):
        return value(random, random.choice(branches), depth)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return random.choice([*schema["enum"], *schema["enum"], "other"])
    low, high = schema.get("minimum", schema.get("exclusiveMinimum", -2)), schema.get("maximum", 2**31)
    match schema.get("type"):
        case "integer":
            return int(random.choice([low, low + 1, (low + high) // 2, high - 1, high, low - 1, high + 1, 1, 8]))
        case "number":
            return random.choice([low, high, (low + high) / 2, low - 0.01, high + 0.01, low + 1e-9, 0.5, 1])
        case "boolean":
            return random.choice([True, False])
        case "string":
            most = schema.get("maxLength", schema.get("maxBytes", 64))
            size = random.choice([0, 1, 5, min(most, 20_000), min(most, 20_000) + 1])
            return random.choice(["a", "é", "\n", "<|im_end|>", "{{", "0"]) * max(1, size // 2)
        case "array":
            most = min(schema.get("maxItems", 4), 40)
            return [
                value(random, schema.get("items", {}), depth + 1)
                for _ in range(random.choice([0, 1, 2, most, most + 1]))
            ]
        case "object":
            known = schema.get("properties", {})
            some = {name: value(random, one, depth + 1) for name, one in known.items() if random.random() < 0.8}
            return some or {"12": value(random, schema.get("additionalProperties") or {"type": "string"}, depth + 1)}
        case _:
            return random.choice(ODD)


def json_schema(random: Random, depth: int = 0) -> Any:
    """A JSON schema that may be too much in any way."""
    count = random.choice([0, 1, 3, 50, 1000, 10_000, 10_001, 10**9])
    inner = (lambda: json_schema(random, depth + 1)) if depth < 4 else (lambda: {"type": "string"})
    match random.randrange(12):
        case 0:
            return {
                "type": "array",
                "items": inner(),
                "minItems": min(count, random.choice([0, 1, count])),
                "maxItems": count,
            }
        case 1:
            return {"type": "string", "maxLength": count}
        case 2:
            return {"type": "string", "pattern": random.choice(PATTERNS)}
        case 3:
            names = [f"p{number}" for number in range(random.choice([1, 5, 40, 300]))]
            return {
                "type": "object",
                "properties": dict.fromkeys(names, inner()),
                "required": names[: random.choice([0, 1, 40])],
            }
        case 4:
            return {random.choice(["anyOf", "oneOf", "allOf"]): [inner() for _ in range(random.choice([1, 2, 5]))]}
        case 5:
            return {
                "type": random.choice(["integer", "number"]),
                random.choice(["minimum", "maximum", "multipleOf", "exclusiveMinimum"]): random.choice(
                    [0, 0.1, 7, 1e-9, 1e15, -1e15, 123456789.125]
                ),
            }
        case 6:
            return {"$ref": random.choice(["#", "#/properties/a", "#/$defs/x", "http://x/y"])}
        case 7:
            return {"enum": [random.choice(ODD) for _ in range(random.choice([1, 30, 900]))]}
        case 8:
            return {
                "type": "object",
                "additionalProperties": inner(),
                "minProperties": min(count, 40),
                "maxProperties": count,
            }
        case 9:
            return {
                "type": "string",
                "format": random.choice(["date-time", "email", "uuid", "uri", "ipv6", "unknown"]),
            }
        case 10:
            return {
                "type": "object",
                "properties": {"v": {"type": "string"}, "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
            }
        case _:
            return random.choice(
                [{}, True, False, {"type": "null"}, {"not": {}}, {"const": {"a": [1]}}, {"type": ["string", "null"]}]
            )


def as_form(body: Mapping[str, Any]) -> dict[str, Any]:
    """As the fields of a form: everything is text."""
    form: dict[str, Any] = {}
    for name, one in body.items():
        if isinstance(one, list):
            form[f"{name}[]"] = [entry if isinstance(entry, str) else json.dumps(entry) for entry in one][:20]
        else:
            form[name] = one if isinstance(one, str) else json.dumps(one)
    return form
