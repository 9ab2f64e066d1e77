"""API keys: a request without a known key gets 401 and nothing else.

Where keys are on, every route asks for one, unknown paths too. The lines of a batch, which the server sends to
itself, carry their owner's key in the scope's state, where no client can put anything.
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from cohabit.access.keys import Key
from cohabit.access.keys_file import Keyring
from cohabit.access.rate_limits import Exceeded, RateLimits
from cohabit.api.context import key_of, state_of
from cohabit.api.errors import ApiError

_OWNERS = ("/admin/", "/metrics")
_OPEN = frozenset({"/health/live", "/health/ready"})
_SCHEMES = {b"authorization", b"x-api-key", b"api-key"}  # the latter two of Anthropic's and Azure's clients
_MAX_SECRET = 512  # bytes; nothing longer is hashed


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """The known keys, and how much each may ask."""

    keyring: Keyring
    limits: RateLimits
    open_health: bool = False  # whether ``/health/...`` needs no key


class Authentication:
    """Lets in requests with a known key."""

    def __init__(self, app: ASGIApp, auth: AuthConfig) -> None:
        self._app = app
        self._auth = auth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = state_of(scope)
        if scope["type"] != "http" or (self._auth.open_health and scope["path"] in _OPEN):
            await self._app(scope, receive, send)
            return
        line = "key" in state  # of a batch: it comes from ourselves, with its owner's key
        try:
            key = state["key"] if line else self._known(scope)
            state["key"] = key
            self._admit(scope, key, line=line)
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        finally:
            self._auth.limits.leave(key)

    def _known(self, scope: Scope) -> Key:
        secrets = {_secret(name, value) for name, value in scope["headers"] if name in _SCHEMES}
        if not secrets:
            raise _unknown(scope, "missing_api_key", "an API key is needed: send it as authorization: Bearer KEY")
        secret = secrets.pop()
        key = self._auth.keyring.find(secret) if secret is not None and not secrets else None
        if key is None:
            raise _unknown(scope, "invalid_api_key", "this API key is unknown; it may have been revoked")
        return key

    def _admit(self, scope: Scope, key: Key, *, line: bool) -> None:
        if scope["path"].startswith(_OWNERS) and not key.admin:
            raise ApiError(403, "this needs an admin key", kind="permission_error", code="admin_key_required")
        over = self._auth.limits.enter(key, line=line)
        if over is not None:
            raise too_many(over)


@dataclass(frozen=True, slots=True)
class Limited:
    """Who asks, and where it is counted."""

    key: Key
    limits: RateLimits


def limited(request: Request) -> Limited | None:
    """For what counts as several requests; None where no keys are asked for."""
    key, auth = key_of(request), request.app.state.auth
    return None if key is None or auth is None else Limited(key, auth.limits)


def too_many(over: Exceeded) -> ApiError:
    """The answer to a request beyond the limits of its key."""
    return ApiError(429, over.message, kind="rate_limit_error", code=over.code, retry_after=over.retry_after)


def still_valid(request: Request) -> Callable[[], bool]:
    """Whether the key of a request, for one that has no end of its own, has not been revoked or changed meanwhile."""
    key, auth = key_of(request), request.app.state.auth
    if key is None or auth is None:
        return lambda: True
    keyring: Keyring = auth.keyring
    return lambda: keyring.named(key.name) == key


def _secret(name: bytes, value: bytes) -> str | None:
    """What a header holds; None for what holds none. Of Basic, for browsers, it is the password."""
    if len(value) > _MAX_SECRET:
        return None
    text = value.decode("latin-1").strip()
    if name != b"authorization":
        return text
    scheme, _, secret = text.partition(" ")
    if scheme.lower() == "bearer":
        return secret.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(secret, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return None
    return None


def _unknown(scope: Scope, code: str, message: str) -> ApiError:
    error = ApiError(401, message, kind="authentication_error", code=code)
    browser = any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])
    # Only a browser is asked for Basic, and shows its user a form for it: the key is the password.
    error.headers["www-authenticate"] = 'Basic realm="cohabit"' if browser else 'Bearer realm="cohabit"'
    return error
