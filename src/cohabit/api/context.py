"""What the server knows of a request beside what its client sent: its key, and the service as that key sees it."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any, TypedDict

from starlette.requests import Request
from starlette.types import Scope

from cohabit.access.keys import Key
from cohabit.runtime.service import ModelInfo, Service


class RequestState(TypedDict, total=False):
    """The ``state`` of the scope, where no client can put anything."""

    request_id: str  # written by RequestLog
    key: Key  # by Authentication; of a line of a batch by ``batches``
    background: bool  # by ``batches`` alone: it is a line of a batch; if true, it gives way to other requests
    model: str  # by the route, for the log
    service: Service  # by ``service_of``


def state_of(scope: Scope) -> RequestState:
    state: RequestState = scope.setdefault("state", {})
    return state


def key_of(request: Request) -> Key | None:
    """Whose request it is; None where no keys are needed."""
    return state_of(request.scope).get("key")


def service_of(request: Request) -> Service:
    """The runtime behind this app, as far as the key of the request sees it."""
    state = state_of(request.scope)
    if "service" not in state:
        service: Service = request.app.state.service
        key = state.get("key")
        state["service"] = service if key is None or key.models is None else RestrictedService(service, key)
    return state["service"]


class RestrictedService:
    """A service of which a key may use only some models: for it there are no others."""

    def __init__(self, service: Service, key: Key) -> None:
        self._service = service
        self._key = key

    @cached_property
    def models(self) -> Mapping[str, ModelInfo]:
        """Those that it may use, by name or by an alias."""
        found = self._service.models.items()
        return {name: info for name, info in found if any(map(self._key.allows, (name, *info.aliases)))}

    def __getattr__(self, name: str) -> Any:
        """Everything but the models is the service's."""
        return getattr(self._service, name)
