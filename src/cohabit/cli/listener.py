"""Where clients come in: the socket, what they are shown there, and what they must show."""

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from cohabit.cli.exits import Code, leave
from cohabit.config.errors import ConfigError

if TYPE_CHECKING:
    from cohabit.api.http.certificates import Certificate
    from cohabit.api.middleware.auth import AuthConfig
    from cohabit.config.model import Config


Address = tuple[socket.AddressFamily, Any]
"""A family and an address of it."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """All three; without a certificate it is http, without a lock no key is asked for."""

    socket: socket.socket
    certificate: "Certificate | None"
    lock: "AuthConfig | None"

    @property
    def url(self) -> str:
        """For clients on this machine."""
        host, port = self.socket.getsockname()[:2]
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def certificate_of(config: "Config") -> "Certificate | None":
    """Whether clients will take it is said on standard error. Raises ConfigError."""
    from cohabit.api.http.certificates import Certificate, CertificateError, Files

    tls = config.server.tls
    if tls is None:
        return None
    password = None if tls.password_file is None else config.base_dir / tls.password_file
    try:
        found = Certificate(Files(config.base_dir / tls.certificate, config.base_dir / tls.key, password))
    except CertificateError as error:
        raise ConfigError(f"server.tls.{error}") from None
    if found.objection is not None:
        typer.echo(f"server.tls.certificate: clients will refuse it: {found.objection}", err=True)
    return found


def resolved(host: str, port: int) -> Address:
    """Raises what ends the command."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise leave(Code.FAILED, f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return family, address


def listen(where: Address) -> socket.socket:
    """Raises what ends the command."""
    family, address = where
    try:
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        raise leave(Code.FAILED, f"cannot listen on {address[0]}:{address[1]}: {error.strerror or error}") from None
    return listening
