"""The fields of a request that an engine takes beside OpenAI's: declared once, as a struct with bounds.

Validation, the tables in docs/engines.md and the fuzz test are all made from the declaration. Example:

    class Parameters(msgspec.Struct, kw_only=True):
        top_k: Annotated[int, Meta(ge=0, le=1000, description="the k most likely tokens")] | None = None

``null`` is the same as leaving a field out. What a type cannot say stands in ``extra_json_schema``: ``uniqueItems``,
and ``maxBytes`` of a string or of the whole value in JSON.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Any

import msgspec

from cohabit.protocol.tasks import Task

JsonSchema = dict[str, Any]


class BadParameter(Exception):
    """A value that cannot be honoured. The text says what would do and quotes nothing."""

    def __init__(self, message: str, *, param: str, code: str = "invalid_request") -> None:
        """``param`` names the field."""
        super().__init__(message)
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True)
class Parameter:
    """One declared field."""

    name: str
    schema: JsonSchema  # of a value, null aside
    description: str
    decode: Callable[[bytes | msgspec.Raw], Any]

    def read(self, raw: bytes | msgspec.Raw) -> Any:
        """The value, None for null. Raises BadParameter."""
        try:
            value = self.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise self._refused() from None
        if value is not None and not _within(self.schema, value):
            raise self._refused()
        return value

    def words(self) -> str:
        """What a value must be, such as ``a whole number from 0 to 1000``."""
        return _words(self.schema)

    def _refused(self) -> BadParameter:
        return BadParameter(f"{self.name} must be {self.words()}", param=self.name)


@cache
def parameters_of(declared: type[msgspec.Struct]) -> Mapping[str, Parameter]:
    """The fields of a declaration by the names that clients use, in its order."""
    _, parts = msgspec.json.schema_components([declared])
    own = parts[declared.__name__]["properties"]
    parameters = {}
    for field in msgspec.structs.fields(declared):
        name = field.encode_name
        schema = _resolved(own[name], parts)
        (schema,) = [branch for branch in schema.get("anyOf", [schema]) if branch.get("type") != "null"]
        description = schema.pop("description", "")
        parameters[name] = Parameter(name, schema, description, msgspec.json.Decoder(field.type).decode)
    return MappingProxyType(parameters)


class Declared:
    """What the engine of one model takes beside the fields of a route."""

    def __init__(
        self,
        by_task: Mapping[Task, type[msgspec.Struct]] = MappingProxyType({}),
        refused: Mapping[str, str] = MappingProxyType({}),
        check: Callable[[Mapping[str, Any]], None] = lambda _given: None,
    ) -> None:
        """``refused`` are fields that are never taken, with why; ``check`` looks at what types cannot tell."""
        self._by_task = by_task
        self._refused = refused
        self._check = check

    def read(self, task: Task, fields: Mapping[str, bytes | msgspec.Raw]) -> tuple[dict[str, Any], list[str]]:
        """The declared ones of these fields, those that are null aside; and the names of all others.

        Raises BadParameter.
        """
        known = parameters_of(self._by_task[task]) if task in self._by_task else {}
        given, others = {}, []
        for name, raw in fields.items():
            if name in known:
                if (value := known[name].read(raw)) is not None:
                    given[name] = value
            elif name in self._refused:
                if bytes(raw) != b"null":
                    message = f"{name} is not supported: {self._refused[name]}"
                    raise BadParameter(message, param=name, code="unsupported_parameter")
            else:
                others.append(name)
        self._check(given)
        return given, others


def _resolved(schema: Any, parts: Mapping[str, Any]) -> Any:
    """With references to other structs replaced by what they mean."""
    if isinstance(schema, list):
        return [_resolved(one, parts) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _resolved(parts[schema["$ref"].rpartition("/")[2]], parts)
    return {key: _resolved(value, parts) for key, value in schema.items() if key != "default"}


def _within(schema: JsonSchema, value: Any) -> bool:
    """Whether the value keeps to what its type cannot say."""
    if schema.get("uniqueItems") and len(set(value)) < len(value):
        return False
    if (
        "maxBytes" in schema
        and len(value.encode() if isinstance(value, str) else msgspec.json.encode(value)) > schema["maxBytes"]
    ):
        return False
    return all(_within(schema["items"], item) for item in value) if isinstance(value, list) else True


def _words(schema: JsonSchema) -> str:
    if "anyOf" in schema:
        return " or ".join(map(_words, schema["anyOf"]))
    if "enum" in schema:
        return "one of " + ", ".join(map(json.dumps, schema["enum"]))
    match schema.get("type"):
        case "boolean":
            return "true or false"
        case "integer":
            return "a whole number" + _range(schema)
        case "number":
            return "a number" + _range(schema)
        case "string":
            return "a string" + _most(schema, "maxLength", "characters")
        case "array":
            once = ", each once" if schema.get("uniqueItems") else ""
            return f"an array{_most(schema, 'maxItems', 'entries')}{once}, each {_words(schema['items'])}"
        case "object":
            values = schema.get("additionalProperties")
            return f"an object{_most(schema, '', '')}" + (
                f", each value {_words(values)}" if isinstance(values, dict) else ""
            )
        case _:
            return "of a type that is taken here"


def _range(schema: JsonSchema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    above = schema.get("exclusiveMinimum")
    if above is not None:
        return f" above {above:g}" + (f", at most {high}" if high is not None else "")
    start = f" from {low:g}" if low is not None else ""
    return start if high is None else f"{start} to {high}" if start else f" of at most {high}"


def _most(schema: JsonSchema, key: str, unit: str) -> str:
    if "maxBytes" in schema:
        return f" of at most {schema['maxBytes']} bytes"
    return f" of at most {schema[key]} {unit}" if key in schema else ""
