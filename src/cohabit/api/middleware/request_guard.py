"""What is refused on every route: keys in the URL, and compressed bodies."""

from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Receive, Scope, Send

from cohabit.api.errors import ApiError, BadRequest

KEYS = frozenset(
    {
        *("access_token", "api_key", "apikey", "auth", "auth_token", "authorization", "bearer", "credential"),
        *("key", "password", "secret", "subscription_key", "token", "x_api_key"),
    }
)
"""Names of keys in query strings; also with hyphens."""


_AS_IT_IS = {b"content-encoding": b"identity", b"transfer-encoding": b"chunked"}


class RequestGuard:
    """Refuses keys in the URL, which proxies and browsers log, and compressed bodies.

    A compressed body would have to be decompressed to be measured: one megabyte can hold gigabytes.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = _refusal(scope) if scope["type"] == "http" else None
        await (self._app if error is None else error.response())(scope, receive, send)


def _refusal(scope: Scope) -> ApiError | None:
    if scope["query_string"]:
        query = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        if any(name.strip().lower().replace("-", "_") in KEYS for name, _ in query):
            return BadRequest(
                "keys in the URL end up in logs; send yours in the header authorization: Bearer KEY, and replace it "
                "if it was a real one",
                code="key_in_address",
            )
    for name, value in scope["headers"]:
        if name in _AS_IT_IS and value.strip().lower() not in {_AS_IT_IS[name], b""}:
            return ApiError(415, "compressed bodies are not accepted; send it uncompressed", code="compressed_body")
    return None
