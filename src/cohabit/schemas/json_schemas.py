"""Bounds on a client's JSON schema, before anything is queued.

What generates text by a schema builds an automaton of it. Its size and the time it takes grow with counts that cost a
client nothing to write (``minItems: 1000000000``), and such work can be neither bounded nor cancelled once begun.
So a schema is walked through here:

- 64 KiB, 32 schemas inside each other, 1000 properties and values of enums;
- a repetition inside a repetition multiplies: at most 10,000 along any path, references followed;
- all of it written out once at most 100,000 parts;
- references only to places in the same schema, and none that leads back to itself at the same place;
- something can be made of it: an object that must hold itself, for example, never ends.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

import msgspec

MAX_BYTES = 64 << 10
MAX_DEPTH = 32
MAX_NAMES = 1000  # properties and values of enums
MAX_REPEATED = 10_000
MAX_PARTS = 100_000
MAX_PATTERN = 1024  # bytes

_COUNTS = (
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "minProperties",
    "maxProperties",
    "minContains",
    "maxContains",
)
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("prefixItems",)
_CHOICES = ("anyOf", "oneOf", "allOf")
_INSIDE = (
    "items",
    "additionalItems",
    "additionalProperties",
    "unevaluatedItems",
    "unevaluatedProperties",
    "contains",
    "propertyNames",
    "contentSchema",
)
_SAME_PLACE = ("not", "if", "then", "else")  # schemas of the same value
_FOREIGN = ("$dynamicRef", "$recursiveRef")
_NUMBERS = ("multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_LARGEST = 1e15
_REPEAT = re.compile(r"\{\s*([0-9]+)\s*(?:,\s*([0-9]*)\s*)?\}")
_VERBOSE = re.compile(r"\(\?[a-wyzA-Z-]*x[a-zA-Z-]*[:)]")  # a flag by which spaces and comments mean nothing
_DIGITS = 6  # of a place in an array

Schema = dict[str, Any]


class BadSchema(Exception):
    """It is not taken. The text says why, and is to follow the field's name; it quotes nothing."""


def check(schema: Schema) -> None:
    """Raises BadSchema for a schema over the bounds, or one that nothing can be made of."""
    try:
        _check(schema)
    except RecursionError:  # each reference is followed inside of the one before
        raise BadSchema("must not have references that lead to references so many times") from None


def _check(schema: Schema) -> None:
    if len(msgspec.json.encode(schema)) > MAX_BYTES:
        raise BadSchema(f"must have at most {MAX_BYTES >> 10} KiB")
    walk = _Walk(schema)
    walk.visit(schema, 0)
    if walk.names > MAX_NAMES:
        raise BadSchema(f"must have at most {MAX_NAMES} properties and values of enums in all")
    walk.follow(schema, ())
    repeated, parts = walk.weight(schema, ())
    if repeated > MAX_REPEATED:
        raise BadSchema(
            f"must not repeat anything more than {MAX_REPEATED} times: the counts (minItems, maxItems, minLength, "
            "maxLength, repetitions in patterns) of nested schemas multiply"
        )
    if parts > MAX_PARTS:
        raise BadSchema(f"must have at most {MAX_PARTS} parts once its counts are written out")
    if not walk.possible(schema):
        raise BadSchema("cannot be satisfied: something that it requires holds itself without end")


class _Walk:
    """One schema's tree, with the targets of its references."""

    def __init__(self, root: Schema) -> None:
        self._root = root
        self._targets: dict[str, Any] = {}
        self._weights: dict[int, tuple[int, int]] = {}
        self._ways: dict[int, int] = {}
        self._visited: set[int] = set()
        self._followed: set[int] = set()
        self.names = 0

    def visit(self, schema: Any, depth: int) -> None:
        """Every schema once, as they are written. Raises BadSchema."""
        if isinstance(schema, bool) or id(schema) in self._visited:
            return
        if not isinstance(schema, dict):
            raise BadSchema("must be a JSON schema: a schema in it is neither an object nor true or false")
        if depth > MAX_DEPTH:
            raise BadSchema(f"must not have schemas inside of schemas deeper than {MAX_DEPTH}")
        self._visited.add(id(schema))
        self._look(schema)
        for inner in _children(schema):
            self.visit(inner, depth + 1)
        if "$ref" in schema:  # which may be a place that is no schema otherwise
            self.visit(self._targets[schema["$ref"]], depth)

    def _look(self, schema: Schema) -> None:
        if any(name in schema for name in _FOREIGN):
            raise BadSchema("must use no references but $ref")
        if "$ref" in schema:
            ref = _text(schema["$ref"])
            self._targets[ref] = self._found(ref)
        for name in _MAPS:
            _of_type(schema, name, dict, "an object")
        for name in (*_LISTS, *_CHOICES, "enum", "required"):
            _of_type(schema, name, list, "an array")
        for name in _COUNTS:
            count = schema.get(name, 0)
            if isinstance(count, bool) or not isinstance(count, int | float) or count < 0 or count != int(count):
                raise BadSchema(f"must have whole numbers from 0 on as its {name}")
        for name in _NUMBERS:
            value = schema.get(name, 0)
            if not isinstance(value, bool) and isinstance(value, int | float) and abs(value) > _LARGEST:
                raise BadSchema(f"must have no {name} beyond {_LARGEST:.0e}")
        patterns = [schema["pattern"]] if "pattern" in schema else []
        for pattern in [*patterns, *(schema.get("patternProperties") or {})]:
            if len(_text(pattern).encode()) > MAX_PATTERN:
                raise BadSchema(f"must have patterns of at most {MAX_PATTERN} bytes")
            if _VERBOSE.search(pattern):
                raise BadSchema("must have no flag x in its patterns")
        self.names += sum(len(schema.get(name) or ()) for name in ("enum", "properties", "patternProperties"))

    def _found(self, ref: str) -> Any:
        """What a reference means. Raises BadSchema."""
        if not ref.startswith("#"):
            raise BadSchema("must refer to nothing outside of itself")
        found: Any = self._root
        for part in [unquote(step).replace("~1", "/").replace("~0", "~") for step in ref[1:].split("/")[1:]]:
            if isinstance(found, dict) and part in found:
                found = found[part]
            elif isinstance(found, list) and len(part) <= _DIGITS and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            else:
                raise BadSchema("must have something at every place that it refers to")
        if ref not in ("#", "#/") and not ref.startswith("#/"):
            raise BadSchema("must refer to places by their path, such as #/$defs/name")
        return found

    def follow(self, schema: Any, above: tuple[int, ...]) -> None:
        """Raises BadSchema for a reference that leads back to itself while still at the same value."""
        if not isinstance(schema, dict) or id(schema) in self._followed:
            return
        if id(schema) in above:
            raise BadSchema("must not have references that only lead back to themselves")
        if len(above) > 4 * MAX_DEPTH:
            raise BadSchema(f"must not have references that lead to references more than {4 * MAX_DEPTH} times")
        for inner in _same_place(schema):
            self.follow(inner, (*above, id(schema)))
        if "$ref" in schema:
            self.follow(self._targets[schema["$ref"]], (*above, id(schema)))
        self._followed.add(id(schema))
        for inner in _children(schema):
            self.follow(inner, ())

    def weight(self, schema: Any, above: tuple[int, ...]) -> tuple[int, int]:
        """How often anything in it is repeated at most, and of how many parts it is once written out."""
        if not isinstance(schema, dict) or id(schema) in above:
            return 1, 1  # recursion goes round again only as the text does
        if id(schema) not in self._weights:
            if len(above) > 8 * MAX_DEPTH:
                raise BadSchema(f"must not have references that lead to references more than {8 * MAX_DEPTH} times")
            self._weights[id(schema)] = self._weigh(schema, (*above, id(schema)))
        return self._weights[id(schema)]

    def _weigh(self, schema: Schema, above: tuple[int, ...]) -> tuple[int, int]:
        most = {name: int(schema.get(name, 0)) for name in _COUNTS}
        items = max(1, most["minItems"], most["maxItems"], most["minContains"], most["maxContains"])
        entries = max(1, most["minProperties"], most["maxProperties"])
        text = max(1, most["minLength"], most["maxLength"])
        patterns = [schema["pattern"]] if "pattern" in schema else []
        written = [_written_out(pattern) for pattern in [*patterns, *(schema.get("patternProperties") or {})]]
        repeated, parts = max([text, *written]), 1 + text + sum(written) + len(schema.get("enum") or ())
        for name, inner in _named_children(schema):
            times = items if name in ("items", "contains", "prefixItems") else entries if "ropert" in name else 1
            if name == "properties":
                times = 1
            deep, many = self.weight(inner, above)
            repeated, parts = max(repeated, times * deep), parts + times * many
        if len(joined := (schema.get("allOf") or [])) > 1:  # each choice of one with each choice of the others
            product = 1
            for inner in joined:
                product *= self._choices(inner, above)
                parts += product
                if product > MAX_PARTS:
                    break
        if "$ref" in schema:
            deep, many = self.weight(self._targets[schema["$ref"]], above)
            repeated, parts = max(repeated, deep), parts + many
        repeated = max(repeated, items, entries)
        return min(repeated, MAX_REPEATED + 1), min(parts, MAX_PARTS + 1)

    def _choices(self, schema: Any, above: tuple[int, ...]) -> int:
        """Of how many ways a part of an ``allOf`` is one. Each part is counted once, however often it is met."""
        if not isinstance(schema, dict) or id(schema) in above:
            return 1
        if id(schema) not in self._ways:
            above = (*above, id(schema))
            found = 1
            for name in ("anyOf", "oneOf"):
                if name in schema:
                    found *= max(1, sum(self._choices(inner, above) for inner in schema[name]))
            for inner in schema.get("allOf") or []:
                found *= self._choices(inner, above)
            if "$ref" in schema:
                found *= self._choices(self._targets[schema["$ref"]], above)
            self._ways[id(schema)] = min(found, MAX_PARTS + 1)
        return self._ways[id(schema)]

    def possible(self, root: Schema) -> bool:
        """Whether a value can be made that ends. References count once their targets do."""
        done: set[str] = set()
        for _ in range(4 * MAX_DEPTH):
            new = {ref for ref, target in self._targets.items() if ref not in done and _possible(target, done)}
            if not new:
                return _possible(root, done)
            done |= new
        raise BadSchema(f"must not have references that lead to references more than {4 * MAX_DEPTH} times")


def _possible(schema: Any, done: set[str]) -> bool:
    if not isinstance(schema, dict):
        return schema is not False
    if "$ref" in schema and schema["$ref"] not in done:
        return False
    if "enum" in schema and not schema["enum"]:
        return False
    if not all(_possible(inner, done) for inner in (schema.get("allOf") or [])):
        return False
    for name in ("anyOf", "oneOf"):
        if name in schema and not any(_possible(inner, done) for inner in schema[name]):
            return False
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if not isinstance(kinds, list):
        kinds = (
            ["object"]
            if "required" in schema and "properties" in schema
            else ["array"]
            if "minItems" in schema
            else ["any"]
        )
    return any(_possible_as(kind, schema, done) for kind in kinds)


def _possible_as(kind: Any, schema: Schema, done: set[str]) -> bool:
    if kind == "object":
        properties = schema.get("properties") or {}
        return all(
            _possible(properties[name], done)
            for name in (schema.get("required") or [])
            if isinstance(name, str) and name in properties
        )
    if kind == "array":
        least = int(schema.get("minItems", 0))
        first = (schema.get("prefixItems") or [])[:least]
        others = (
            schema.get("items", True) if least > len(first) and not isinstance(schema.get("items"), list) else True
        )
        return all(_possible(inner, done) for inner in [*first, others])
    return True


def _named_children(schema: Schema) -> Iterator[tuple[str, Any]]:
    """Schemas right inside of this one, with the keyword that holds them. Raises BadSchema for what can be none."""
    for name in _MAPS:
        for inner in _of_type(schema, name, dict, "an object").values():
            yield name, inner
    for name in (*_LISTS, *_CHOICES):
        for inner in _of_type(schema, name, list, "an array"):
            yield name, inner
    for name in (*_INSIDE, *_SAME_PLACE):
        if name in schema:
            for inner in schema[name] if name == "items" and isinstance(schema[name], list) else [schema[name]]:
                yield name, inner


def _children(schema: Schema) -> Iterator[Any]:
    for _, inner in _named_children(schema):
        yield inner


def _same_place(schema: Schema) -> Iterator[Any]:
    for name, inner in _named_children(schema):
        if name in _CHOICES or name in _SAME_PLACE:
            yield inner


def _of_type(schema: Schema, name: str, kind: type[Any], called: str) -> Any:
    found = schema.get(name)
    if found is None:
        return kind()
    if not isinstance(found, kind):
        raise BadSchema(f"must have {called} as its {name}")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise BadSchema("must have texts as its references and patterns")
    return value


def _written_out(pattern: str) -> int:
    """Of how many parts a regular expression is with its repetitions written out; an upper bound."""
    totals = [[0, 0]]  # for each open group: parts so far, and those of its last item
    at = 0
    while at < len(pattern):
        total = totals[-1]
        char = pattern[at]
        size = 1
        if char == "\\":
            at += 1
        elif char == "[":
            at = _class_end(pattern, at)
        elif char == "(":
            totals.append([0, 0])
            at += 1
            continue
        elif char == ")" and len(totals) > 1:
            size = 1 + totals.pop()[0]
            total = totals[-1]
        elif char == "{" and (found := _REPEAT.match(pattern, at)) is not None:
            times = max(1, _count(found[1]), _count(found[2] or "0"))
            total[0] += total[1] * (times - 1)
            total[1] *= times
            at = found.end()
            continue
        total[0] += size
        total[1] = size
        at += 1
        if total[0] > MAX_PARTS:
            return MAX_PARTS
    return min(MAX_PARTS, max(1, sum(total[0] for total in totals)))


def _count(digits: str) -> int:
    """The number, as far as it matters."""
    digits = digits.lstrip("0") or "0"
    return MAX_PARTS if len(digits) > len(str(MAX_PARTS)) else int(digits)


def _class_end(pattern: str, at: int) -> int:
    """Where a class of characters ends that begins at ``at``."""
    at += 2
    while at < len(pattern) and pattern[at] != "]":
        at += 2 if pattern[at] == "\\" else 1
    return at
