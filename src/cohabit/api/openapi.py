"""The OpenAPI document, made of what each route declares: see ``routing``."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import msgspec
from starlette.applications import Starlette

from cohabit.api.routing import Endpoint, Operation, Responses, Structs
from cohabit.schemas.answers import ErrorResponse

EXAMPLES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "ChatRequest": {
            "model": "llm",
            "messages": [{"role": "user", "content": "What is the capital of France?"}],
            "temperature": 0,
        },
        "CompletionRequest": {"model": "llm", "prompt": "The capital of France is", "max_tokens": 16},
        "ResponseRequest": {"model": "llm", "input": "What is the capital of France?", "temperature": 0},
        "EmbeddingRequest": {"model": "embeddings", "input": ["one", "two"]},
        "RerankRequest": {
            "model": "embeddings",
            "query": "What eats mice?",
            "documents": ["Cats do.", "Cars."],
        },
        "SpeechRequest": {"model": "tts", "input": "Hello there.", "response_format": "wav"},
        "InferenceRequest": {"type": "embed", "data": {"texts": ["one", "two"]}},
    }
)
"""By the name of the body's schema."""

_REF = "#/components/schemas/{name}"
_HEADER = "#/components/headers/{name}"
JsonSchema = dict[str, Any]
DESCRIPTION = "Many AI models on one GPU behind one OpenAI-compatible server."

Kind = type[msgspec.Struct]


def _errors(descriptions: dict[int, str]) -> Responses:
    return {
        status: {"model": ErrorResponse, "description": description} for status, description in descriptions.items()
    }


ERRORS = _errors(
    {
        400: "The request is wrong; `param` names the field.",
        403: "Not for that web page, or not under that host name.",
        404: "There is no such model.",
        408: "A time limit passed.",
        413: "The body is too large.",
        415: "The body is compressed.",
        429: "Too many wait; `Retry-After` says when to come back.",
        500: "A bug of ours.",
        502: "The model failed on this request.",
        503: "Not now; `code` says why, `Retry-After` when to come back.",
    }
)
_ALL = {**ERRORS, **_errors({409: "It cannot be done as things are; `code` says why.", 507: "The disk is full."})}
EVERYWHERE = (400, 403, 415, 500)
"""What any route may answer, be it at the door."""

HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "x-request-id": ({"type": "string"}, "Stands in the log."),
    "x-cohabit-queue-ms": ({"type": "integer", "minimum": 0}, "Milliseconds spent waiting, without what follows."),
    "x-cohabit-load-ms": ({"type": "integer", "minimum": 0}, "Milliseconds in which the model was loaded or woken."),
    "x-cohabit-run-ms": ({"type": "integer", "minimum": 0}, "Milliseconds of the run; not on streams."),
    "x-cohabit-warning": ({"type": "string"}, "Which fields were ignored or dropped."),
    "retry-after": ({"type": "integer", "minimum": 1}, "Seconds after which another try makes sense."),
    "x-should-retry": ({"const": "false"}, "For clients that would send it again."),
}
"""Of answers: schema and description by name."""

_TIMINGS = ("x-cohabit-queue-ms", "x-cohabit-load-ms", "x-cohabit-run-ms", "x-cohabit-warning")
_BY_STATUS = {"408": ("x-should-retry",), "429": ("retry-after",), "503": ("retry-after", "x-should-retry")}
_ALWAYS = {"x-request-id", "retry-after"}  # where they are named at all

_PATH_PARAMETERS = {
    "name": "A model's name or alias.",
    "file_id": "A file's id.",
    "batch_id": "A batch's id.",
}
_TIMEOUT = {
    "name": "x-request-timeout",
    "in": "header",
    "description": "Seconds that waiting and running may take together.",
    "schema": {"type": "string", "pattern": r"^(?=.*[1-9])[0-9]{1,9}(\.[0-9]{1,9})?$"},
}


def streamed(whole: Kind) -> Responses:
    """Of a route that answers with one object, or with a stream."""
    description = "One object, or with `stream` server-sent events."
    return {200: {"model": whole, "description": description, "content": {"text/event-stream": {}}}}


def only(*statuses: int) -> Responses:
    """Some errors, and those that are EVERYWHERE."""
    return {status: _ALL[status] for status in (*statuses, *EVERYWHERE)}


def _fields(name: str, field: dict[str, Any], parts: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """As it is in a form: it has no null, calls a list ``x[]``, and y of the object ``x`` is ``x[y]``."""
    field = {key: value for key, value in field.items() if value is not None}
    if "anyOf" in field:
        (given,) = (branch for branch in field.pop("anyOf") if branch.get("type") != "null")
        field |= given
    if "enum" in field:
        field["enum"] = [value for value in field["enum"] if value is not None]
        field["type"] = "string"
    if "$ref" in field:
        for part, its in parts[field["$ref"].rpartition("/")[2]]["properties"].items():
            yield f"{name}[{part}]", its
    else:
        yield f"{name}[]" if field["type"] == "array" else name, field


def document(app: Starlette) -> dict[str, Any]:
    """All of it, from the routes: their handlers' names are the ids of the operations."""
    operations = [
        (route, route.operation)
        for route in app.routes
        if isinstance(route, Endpoint) and route.operation is not None
    ]
    schemas, components = _schemas(operations)
    paths: dict[str, dict[str, Any]] = {}
    for route, operation in operations:
        path = paths.setdefault(route.path_format, {})
        path.update({method.lower(): _operation(route, operation, schemas) for method in route.methods or ()})
    for name, example in EXAMPLES.items():
        components[name]["examples"] = [example]
    headers = {
        name: {"schema": kind, "description": description, "required": name in _ALWAYS}
        for name, (kind, description) in HEADERS.items()
    }
    document = {
        "openapi": "3.1.0",
        "info": {"title": "cohabit", "description": DESCRIPTION, "version": app.state.version},
        "paths": paths,
        "components": {"schemas": components, "headers": headers},
    }
    if app.state.auth is not None:
        _declare_keys(document)
    return document


def _schemas(operations: Iterable[tuple[Endpoint, Operation]]) -> tuple[Mapping[Kind, JsonSchema], JsonSchema]:
    """Of each type in an answer its schema, and all schemas that these and the bodies refer to, by name."""
    answers = [
        kind
        for _, operation in operations
        for response in operation.responses.values()
        for kind in _several(response.get("model", ()))
    ]
    bodies = [kind for _, operation in operations for kind in _several(operation.body)]
    kinds = list(dict.fromkeys([*answers, *bodies]))
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    return dict(zip(kinds, schemas, strict=True)), dict(sorted(components.items()))


def _several(kinds: Structs) -> tuple[Kind, ...]:
    return kinds if isinstance(kinds, tuple) else (kinds,)


def _operation(route: Endpoint, operation: Operation, schemas: Mapping[Kind, JsonSchema]) -> JsonSchema:
    responses = {
        str(status): _response(status, described, schemas) for status, described in operation.responses.items()
    }
    for status, response in responses.items():
        names = _headers_of(status, waits="408" in responses)
        response["headers"] = {name: {"$ref": _HEADER.format(name=name)} for name in names}
    made = {
        "tags": [operation.tag],
        "summary": route.name.replace("_", " ").capitalize(),
        "description": inspect.getdoc(route.endpoint),
        "operationId": route.name,
        "requestBody": _request(operation, schemas),
        "parameters": [*_of_path(route), *_of_query(operation.query), *([_TIMEOUT] if operation.waits else [])],
        "responses": responses,
    }
    return {name: part for name, part in made.items() if part not in (None, [])}


def _request(operation: Operation, schemas: Mapping[Kind, JsonSchema]) -> JsonSchema | None:
    if operation.form is not None:
        return {"required": True, "content": {"multipart/form-data": {"schema": _form(operation.form)}}}
    if operation.body == ():
        return None
    schema = _any_of(operation.body, schemas)
    if operation.max_items is not None:
        schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": operation.max_items}
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _form(kind: Kind) -> JsonSchema:
    """The fields and the file in one schema: with ``allOf`` it would be empty, since it takes no other fields."""
    _, parts = msgspec.json.schema_components([kind])
    schema: JsonSchema = parts[kind.__name__]
    fields = dict(each for name, field in schema["properties"].items() for each in _fields(name, field, parts))
    schema["properties"] = {"file": {"type": "string", "format": "binary"}} | fields
    schema["required"] = [*schema["required"], "file"]
    return schema


def _any_of(kinds: Structs, schemas: Mapping[Kind, JsonSchema]) -> JsonSchema:
    one, *others = [schemas[kind] for kind in _several(kinds)]
    return {"anyOf": [one, *others]} if others else one


def _response(status: int, described: Mapping[str, Any], schemas: Mapping[Kind, JsonSchema]) -> JsonSchema:
    content = {**described.get("content", {})}
    if "model" in described:
        content = {"application/json": {"schema": _any_of(described["model"], schemas)}, **content}
    return {"description": described.get("description", HTTPStatus(status).phrase), "content": content}


def _of_path(route: Endpoint) -> list[JsonSchema]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": _PATH_PARAMETERS[name],
            "schema": {"type": "string"},
        }
        for name in route.param_convertors
    ]


def _of_query(kind: type[msgspec.Struct] | None) -> list[JsonSchema]:
    if kind is None:
        return []
    _, parts = msgspec.json.schema_components([kind])
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": schema.pop("description", ""),
            "schema": schema,
        }
        for name, schema in parts[kind.__name__]["properties"].items()
    ]


def _declare_keys(schema: dict[str, Any]) -> None:
    schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    schema["security"] = [{"key": []}]
    error = {"application/json": {"schema": {"$ref": _REF.format(name=ErrorResponse.__name__)}}}
    errors = {
        "401": "No key, or none that is known.",
        "403": "The key may not.",
        "429": "The key has asked too much.",
    }
    for operation in (operation for path in schema["paths"].values() for operation in path.values()):
        for status, description in errors.items():
            operation["responses"].setdefault(status, {"description": description, "content": error})


def _headers_of(status: str, *, waits: bool) -> Iterator[str]:
    """``waits``: whether the route queues its request, so that it can tell where the time went."""
    yield "x-request-id"
    yield from _BY_STATUS.get(status, ())
    if status == "200" and waits:
        yield from _TIMINGS
