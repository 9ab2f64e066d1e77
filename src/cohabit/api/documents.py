"""The OpenAPI document: bodies are read by hand, so their schemas are put in by hand."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from cohabit.openai.errors import ErrorResponse

_REF = "#/components/schemas/{model}"
Responses = dict[int | str, dict[str, Any]]

_bodies: dict[str, type[BaseModel]] = {}

ERRORS: Responses = {
    status: {"model": ErrorResponse, "description": description}
    for status, description in {
        400: "The request is wrong; `param` names the field.",
        404: "There is no such model.",
        408: "A time limit passed.",
        413: "The body is too large.",
        429: "Too many wait; `Retry-After` says when to come back.",
        500: "A bug of ours.",
        502: "The model failed on this request.",
        503: "Not now; `code` says why, `Retry-After` when to come back.",
    }.items()
}


STREAMED: Responses = {
    200: {
        "description": "One object, or with `stream` server-sent events.",
        "content": {"application/json": {}, "text/event-stream": {}},
    }
}


def only(*statuses: int) -> Responses:
    """Some of ERRORS."""
    return {status: ERRORS[status] for status in statuses}


def body_of(kind: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` for a route that reads this body itself."""
    _bodies[kind.__name__] = kind
    reference = {"$ref": _REF.format(model=kind.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}}


def list_of(kind: type[BaseModel], most: int) -> dict[str, Any]:
    """``openapi_extra`` for a route whose body is a list of these."""
    extra = body_of(kind)
    content = extra["requestBody"]["content"]["application/json"]
    content["schema"] = {"type": "array", "items": content["schema"], "minItems": 1, "maxItems": most}
    return extra


def form_of(kind: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` for a route that reads a form of these fields and a file itself."""
    schema = kind.model_json_schema()  # with the file inside: it takes no other fields, so ``allOf`` would be empty
    schema["properties"]["file"] = {"type": "string", "format": "binary"}
    schema["required"] = [*schema["required"], "file"]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def install(app: FastAPI) -> None:
    """Let ``/openapi.json`` tell of everything."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            for name, kind in _bodies.items():
                body = kind.model_json_schema(ref_template=_REF)
                schemas |= body.pop("$defs", {})
                schemas[name] = body
            _without_422(schema)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _without_422(schema: dict[str, Any]) -> None:
    """FastAPI puts its own validation error wherever there is a parameter; here that is a 400 like any other."""
    for path in schema["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
