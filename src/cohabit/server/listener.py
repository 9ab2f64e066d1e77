"""The socket that clients connect to, and the web server behind it."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from cohabit.api.http.tls import Certificate
    from cohabit.config.model import ServerConfig


Address = tuple[socket.AddressFamily, Any]
"""A family and an address of it."""

BACKLOG = 2048  # connections that may wait to be accepted


class StartError(Exception):
    """The server cannot start here. The text is one line that says what would do."""


def address_of(host: str, port: int) -> Address:
    """Raises StartError for a name that is not known."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return family, address


def listen(where: Address) -> socket.socket:
    """Raises StartError where that cannot be, as for a port that is taken."""
    family, address = where
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise StartError(f"cannot listen on {address[0]}:{address[1]}: {error.strerror or error}") from None
    return listening


def url_of(listening: socket.socket, *, tls: bool) -> str:
    """For clients on this machine."""
    host, port = listening.getsockname()[:2]
    scheme = "https" if tls else "http"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def http_server(app: "ASGIApp", config: "ServerConfig", certificate: "Certificate | None") -> "uvicorn.Server":
    """uvicorn with the limits of the config, which leaves the process's signals alone."""
    import uvicorn

    from cohabit.api.http.connections import LIMITS, Connection
    from cohabit.api.http.tls import Handshakes

    class Limited(Connection):
        limits = replace(LIMITS, connections=config.max_connections, held=config.max_bodies)

    protocol: Any = Limited
    if certificate is not None:
        protocol = Handshakes(Limited, certificate, most=config.max_connections)

    class Http(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            """None: models must drain while their connections are still open, and they may be somebody else's."""
            yield

    return Http(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            http=protocol,
            ws="none",
            server_header=False,
            proxy_headers=bool(config.trusted_proxies),
            forwarded_allow_ips=config.trusted_proxies,
            timeout_graceful_shutdown=5,
        )
    )
