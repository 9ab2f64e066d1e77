"""Routes: each is declared once, with its handler and what the OpenAPI document says of it."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from cohabit.api.errors import BadRequest

Handler = Callable[[Request], Awaitable[Response]]
Responses = Mapping[int, Mapping[str, Any]]
"""By status, as OpenAPI has it, with a Struct under ``model`` instead of its JSON schema."""

Structs = type[msgspec.Struct] | tuple[type[msgspec.Struct], ...]
Q = TypeVar("Q", bound=msgspec.Struct)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What the OpenAPI document says of a route."""

    tag: str
    responses: Responses
    body: Structs  # of the JSON in the body, or several that it may be
    form: type[msgspec.Struct] | None  # of the fields of a form, beside ``file``
    max_items: int | None  # the body is a list of so many
    waits: bool  # a request to a model, which may have a time limit
    query: type[msgspec.Struct] | None


class Endpoint(Route):
    """A route for one method. Its handler takes the request alone.

    Starlette would put a second handler of exceptions round each, and add HEAD to each GET.
    """

    def __init__(self, method: str, path: str, handler: Handler, operation: Operation | None) -> None:
        super().__init__(path, handler, methods=[method])
        self.methods = {method}
        self.operation = operation

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            response = await handler(Request(scope, receive, send))
            await response(scope, receive, send)

        self.app = app


class Router:
    """Collects the routes of a module."""

    def __init__(self, tag: str, responses: Responses = MappingProxyType({}), *, prefix: str = "") -> None:
        """All its routes have these ``responses``, and paths that begin with ``prefix``; no tag: no document."""
        self.routes: list[Endpoint] = []
        self._tag = tag
        self._responses = responses
        self._prefix = prefix

    def route(
        self,
        method: str,
        path: str,
        *,
        answer: Structs = (),
        responses: Responses = MappingProxyType({}),
        body: Structs = (),
        form: type[msgspec.Struct] | None = None,
        max_items: int | None = None,
        waits: bool = True,
        query: type[msgspec.Struct] | None = None,
    ) -> Callable[[Handler], Handler]:
        """Decorates a handler.

        ``answer`` is the Struct of a 200, or several that it may be; for the others see Operation.
        """
        success = {200: {"model": answer}} if answer != () else {}
        operation = Operation(
            tag=self._tag,
            responses={**self._responses, **success, **responses},
            body=body,
            form=form,
            max_items=max_items,
            waits=waits and (form is not None or body != ()),
            query=query,
        )

        def declare(handler: Handler) -> Handler:
            self.routes.append(Endpoint(method, self._prefix + path, handler, operation if self._tag else None))
            return handler

        return declare

    def get(self, path: str, **document: Any) -> Callable[[Handler], Handler]:
        """See ``route``."""
        return self.route("GET", path, **document)

    def post(self, path: str, **document: Any) -> Callable[[Handler], Handler]:
        """See ``route``."""
        return self.route("POST", path, **document)

    def delete(self, path: str, **document: Any) -> Callable[[Handler], Handler]:
        """See ``route``."""
        return self.route("DELETE", path, **document)


def query_of(request: Request, kind: type[Q]) -> Q:
    """The parameters of the URL. Raises BadRequest."""
    try:
        return msgspec.convert(dict(request.query_params), kind, strict=False)
    except msgspec.ValidationError:
        raise BadRequest("a parameter of the URL is not valid") from None


def json_response(answer: msgspec.Struct, status: int = 200) -> Response:
    return Response(msgspec.json.encode(answer), status, media_type="application/json")
