"""Refuses requests for a host name that is not the server's, and those that a foreign web page makes a browser send.

Any page that a user visits can send requests to a server on the same machine: for forms and plain text browsers ask
no permission. And whoever owns a domain can point its name at 127.0.0.1, so that the browser takes the server for a
part of that page (DNS rebinding). Of the headers checked here, clients that are no browsers send only ``host``.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

import structlog
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from cohabit.api.errors import ApiError
from cohabit.api.openapi import HEADERS

log = structlog.get_logger()

ANY = "*"
_NAMES_KEPT = 256
_HOST = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d*)?|([^:\[\]]*)(?::\d*)?")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowedHosts:
    """The host names of the server, and the origins whose pages may use it."""

    hosts: frozenset[str] | None = None
    """Beside those of the loopback; None for any name. In lower case, addresses without brackets."""
    origins: frozenset[str] = frozenset()
    """Beside the server's own, as browsers write them."""

    @classmethod
    def of(cls, address: str, hosts: list[str], origins: list[str]) -> "AllowedHosts":
        """For a server that listens on ``address``: hosts are checked on the loopback, or if any are configured."""
        everyone = ANY in hosts or not (hosts or ip_address(address).is_loopback)
        return cls(hosts=None if everyone else frozenset(hosts), origins=frozenset(origins))


ANY_HOST = AllowedHosts()


class AllowedHostsMiddleware:
    """Refuses requests for another host, and those of pages of another origin."""

    def __init__(self, app: ASGIApp, allowed: AllowedHosts) -> None:
        self._app = app
        self._origins = allowed.origins
        self._ours = None if allowed.hosts is None else _decides(allowed.hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        error = self._refusal(scope) if scope["type"] == "http" else None
        await (self._app if error is None else error.response())(scope, receive, send)

    def _refusal(self, scope: Scope) -> ApiError | None:
        host = origin = None
        cross_site = remembered = False
        for name, value in scope["headers"]:
            if name == b"host":
                if self._ours is not None and not self._ours(value):
                    return ApiError(
                        403,
                        "the server does not go by the host that was asked for; its owner can add the name to "
                        "server.hosts",
                        code="foreign_host",
                    )
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"sec-fetch-site":
                cross_site = value == b"cross-site"
            elif name == b"authorization":
                remembered = value[:5].lower() == b"basic"  # a browser adds it to what any page sends
        if origin is not None:
            own = host is not None and origin == b"%b://%b" % (scope["scheme"].encode(), host)
            return None if own or (self._listed(origin) and not remembered) else foreign_origin()
        return foreign_origin() if cross_site and scope["method"] not in _SAFE_METHODS else None

    def _listed(self, origin: bytes) -> bool:
        return ANY in self._origins or origin.decode("latin-1") in self._origins


class Cors(CORSMiddleware):
    """Starlette's, for listed origins, without cookies; with our errors.

    It is the outermost middleware, so that a page can read errors too, and a preflight needs no key.
    """

    def __init__(self, app: ASGIApp, origins: frozenset[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=["*"],
            allow_headers=["*"],
            allow_private_network=True,  # a public page that is listed may use a server of the visitor's own network
            expose_headers=list(HEADERS),
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """A browser asks whether a page may send its request."""
        answer = super().preflight_response(request_headers)
        if answer.status_code == 200:
            return answer
        if self.is_allowed_origin(request_headers["origin"]):
            error = ApiError(405, "no URL takes that method", code="method_not_allowed")
        else:
            error = foreign_origin()
        log.info("refused before it was a request", code=error.body["error"]["code"])
        return error.response()


def foreign_origin() -> ApiError:
    """For a page that is not listed."""
    return ApiError(
        403,
        "web pages of that origin may not use the server; its owner can add the origin to server.cors",
        code="foreign_origin",
    )


def _decides(names: frozenset[str]) -> Callable[[bytes], bool]:
    """Whether the value of a header ``host`` is this machine or one of the names."""

    @lru_cache(_NAMES_KEPT)  # it is asked of every request
    def ours(host: bytes) -> bool:
        match = _HOST.fullmatch(host.decode("latin-1").strip())
        if match is None:
            return False
        name = (match[1] or match[2]).lower().removesuffix(".")
        try:
            address = ip_address(name)
        except ValueError:
            return name == "localhost" or name in names
        return address.is_loopback or str(address) in names

    return ours
