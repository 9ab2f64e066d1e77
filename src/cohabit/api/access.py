"""Nobody comes in without a key, where keys are on; and what whoever has one may do."""

import base64
import binascii
from typing import Any, cast

from fastapi import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from cohabit.access.keyring import Keyring
from cohabit.access.keys import Key
from cohabit.access.meter import Meter, TooFast, TooMany
from cohabit.api.errors import ApiError
from cohabit.runtime.service import Service

_HEADERS = frozenset({b"authorization", b"x-api-key", b"api-key"})  # the last of Azure's clients
_HEALTH = frozenset({"/health/live", "/health/ready"})
_ADMIN = ("/admin", "/metrics")  # whatever comes after: to the router "/metrics\n" is "/metrics"
_CHALLENGE = 'Basic realm="cohabit", charset="UTF-8", Bearer'  # the first one has a browser ask for the key


class Access:
    """Lets in who has a key, as far as that key goes; its ``Key`` is then in ``scope["state"]["key"]``.

    What is there already comes from this process, with its proof: the lines of a batch, which do not count either.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring, *, open_health: bool, meter: Meter | None = None) -> None:
        """Wrap the app."""
        self._app = app
        self._keyring = keyring
        self._open = _HEALTH if open_health else frozenset[str]()
        self._meter = meter or Meter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak ASGI."""
        state = scope.setdefault("state", {})
        if scope["type"] != "http" or "key" in state or scope["path"] in self._open:
            await self._app(scope, receive, send)
            return
        try:
            key = state["key"] = self._holder(scope)
            _check_path(key, scope["path"])
            self._enter(key)
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            self._meter.leave(key)

    def _holder(self, scope: Scope) -> Key:
        """Raises ApiError 401."""
        given = [header for header in scope["headers"] if header[0] in _HEADERS]
        if not given:
            message = "a key is needed: send it in the header authorization: Bearer KEY"
            raise _unauthorized(message, code="missing_api_key")
        if len(given) > 1:
            raise _unauthorized("more than one key was sent; send one of them", code="invalid_api_key")
        key = self._keyring.find(_secret(*given[0]))
        if key is None:
            message = "this key is not known here, or it has been revoked; ask for one whoever runs this server"
            raise _unauthorized(message, code="invalid_api_key")
        return key

    def _enter(self, key: Key) -> None:
        """Raises ApiError 429."""
        try:
            self._meter.enter(key)
        except TooFast as error:
            raise ApiError(
                429,
                f"this key has {key.requests_per_minute} requests a minute, and they are used up",
                kind="rate_limit_error",
                code="rate_limit_exceeded",
                retry_after=error.retry_after,
            ) from None
        except TooMany:
            raise ApiError(
                429,
                f"this key may have {key.concurrent} requests at once; send this again when one of them is answered",
                kind="rate_limit_error",
                code="too_many_concurrent",
            ) from None


def _secret(name: bytes, value: bytes) -> bytes:
    """What stands in a header; nothing where it is not understood, which nobody's key is."""
    if name != b"authorization":
        return value
    scheme, _, credentials = value.partition(b" ")
    if scheme.lower() == b"bearer":
        return credentials.strip(b" ")
    if scheme.lower() == b"basic":
        try:
            user_and_password = base64.b64decode(credentials.strip(b" "), validate=True)
        except binascii.Error:
            return b""
        return user_and_password.partition(b":")[2]
    return b""


def _check_path(key: Key, path: str) -> None:
    """Raises ApiError 403."""
    if not key.admin and path.startswith(_ADMIN):
        raise ApiError(403, "this needs an admin key", kind="permission_error", code="admin_key_required")


def _unauthorized(message: str, *, code: str) -> ApiError:
    error = ApiError(401, message, kind="authentication_error", code=code)
    error.headers["www-authenticate"] = _CHALLENGE
    return error


def key_of(request: Request) -> Key | None:
    """Whose request it is; None where keys are off."""
    key: Key | None = request.scope.get("state", {}).get("key")
    return key


class Allowed:
    """The runtime with only those models that a key may use."""

    def __init__(self, service: Service, key: Key) -> None:
        """See ``allowed``."""
        self._service = service
        self.models = {
            name: info for name, info in service.models.items() if any(map(key.allows, (name, *info.aliases)))
        }

    def __getattr__(self, name: str) -> Any:
        """All else is as it is."""
        return getattr(self._service, name)

    def check(self, name: str) -> None:
        """Raises ApiError 403 for a name or alias of a model that is there, but not for this key."""
        for info in self._service.models.values():
            if name in (info.name, *info.aliases) and info.name not in self.models:
                may = f"it may use {', '.join(self.models)}" if self.models else "it may use none of those here"
                raise ApiError(
                    403,
                    f"this key may not use that model; {may}",
                    kind="permission_error",
                    code="model_not_allowed",
                    param="model",
                )


def allowed(service: Service, key: Key | None) -> Service:
    """The runtime as far as a key goes."""
    if key is None or key.models is None:
        return service
    return cast("Service", Allowed(service, key))  # what it does not have itself is the service's own
