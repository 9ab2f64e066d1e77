"""The OpenAPI document, made of what each route declares: see ``routing``."""

import inspect
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.applications import Starlette

from cohabit.api.examples import EXAMPLES
from cohabit.api.routing import Endpoint, Operation, Responses
from cohabit.schemas.answers import ErrorResponse

_REF = "#/components/schemas/{name}"
_HEADER = "#/components/headers/{name}"
JsonSchema = dict[str, Any]
DESCRIPTION = "Many AI models on one GPU behind one OpenAI-compatible server."

Kind = type[msgspec.Struct]
_bodies: list[Kind] = []


def _errors(descriptions: dict[int, str]) -> Responses:
    return {status: {"model": ErrorResponse, "description": said} for status, said in descriptions.items()}


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


def body_of(kind: Kind, *others: Kind, waits: bool = True) -> dict[str, Any]:
    """The ``request`` of a route that reads one of these bodies itself and, if it ``waits``, a time limit."""
    kinds = (kind, *others)
    _bodies.extend(kinds)
    references = [{"$ref": _REF.format(name=each.__name__)} for each in kinds]
    return _asking({"application/json": {"schema": {"anyOf": references} if others else references[0]}}, waits=waits)


def list_of(kind: Kind, most: int) -> dict[str, Any]:
    """The ``request`` of a route whose body is a list of these."""
    extra = body_of(kind)
    content = extra["requestBody"]["content"]["application/json"]
    content["schema"] = {"type": "array", "items": content["schema"], "minItems": 1, "maxItems": most}
    return extra


def form_of(kind: Kind, *, waits: bool = True) -> dict[str, Any]:
    """The ``request`` of a route that reads a form of these fields and a file, and if it ``waits`` a limit."""
    _, parts = msgspec.json.schema_components([kind])
    schema = parts[kind.__name__]  # with the file inside: it takes no other fields, so ``allOf`` would be empty
    fields = dict(each for name, field in schema["properties"].items() for each in _fields(name, field, parts))
    schema["properties"] = {"file": {"type": "string", "format": "binary"}} | fields
    schema["required"] = [*schema["required"], "file"]
    return _asking({"multipart/form-data": {"schema": schema}}, waits=waits)


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


def _asking(content: dict[str, Any], *, waits: bool) -> dict[str, Any]:
    return {"requestBody": {"required": True, "content": content}, "parameters": [_TIMEOUT] if waits else []}


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
    found = {
        "openapi": "3.1.0",
        "info": {"title": "cohabit", "description": DESCRIPTION, "version": app.state.version},
        "paths": paths,
        "components": {"schemas": components, "headers": headers},
    }
    if app.state.auth is not None:
        _tell_of_keys(found)
    return found


def _schemas(operations: Iterable[tuple[Endpoint, Operation]]) -> tuple[Mapping[Any, JsonSchema], JsonSchema]:
    """Of each type in an answer its schema, and all schemas that these and the bodies refer to, by name."""
    answers = [
        kind
        for _, operation in operations
        for response in operation.responses.values()
        for kind in _several(response.get("model", ()))
    ]
    kinds = list(dict.fromkeys([*answers, *_bodies]))
    found, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    return dict(zip(kinds, found, strict=True)), dict(sorted(components.items()))


def _several(kinds: Any) -> tuple[Kind, ...]:
    return kinds if isinstance(kinds, tuple) else (kinds,)


def _operation(route: Endpoint, operation: Operation, schemas: Mapping[Any, JsonSchema]) -> JsonSchema:
    responses = {str(status): _response(status, told, schemas) for status, told in operation.responses.items()}
    for status, response in responses.items():
        names = _headers_of(status, waits="408" in responses)
        response["headers"] = {name: {"$ref": _HEADER.format(name=name)} for name in names}
    found = {
        "tags": [operation.tag],
        "summary": route.name.replace("_", " ").capitalize(),
        "description": inspect.getdoc(route.endpoint),
        "operationId": route.name,
        **operation.request,
        "parameters": [*_of_path(route), *_of_query(operation.query), *operation.request.get("parameters", ())],
        "responses": responses,
    }
    return {name: part for name, part in found.items() if part != []}


def _response(status: int, told: Mapping[str, Any], schemas: Mapping[Any, JsonSchema]) -> JsonSchema:
    content = {**told.get("content", {})}
    if "model" in told:
        one, *others = [schemas[kind] for kind in _several(told["model"])]
        content = {"application/json": {"schema": {"anyOf": [one, *others]} if others else one}, **content}
    return {"description": told.get("description", HTTPStatus(status).phrase), "content": content}


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


def _tell_of_keys(schema: dict[str, Any]) -> None:
    schema["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    schema["security"] = [{"key": []}]
    error = {"application/json": {"schema": {"$ref": _REF.format(name=ErrorResponse.__name__)}}}
    told = {"401": "No key, or none that is known.", "403": "The key may not.", "429": "The key has asked too much."}
    for operation in (operation for path in schema["paths"].values() for operation in path.values()):
        for status, description in told.items():
            operation["responses"].setdefault(status, {"description": description, "content": error})


def _headers_of(status: str, *, waits: bool) -> Iterator[str]:
    """``waits``: whether the route queues its request, so that it can tell where the time went."""
    yield "x-request-id"
    yield from _BY_STATUS.get(status, ())
    if status == "200" and waits:
        yield from _TIMINGS
