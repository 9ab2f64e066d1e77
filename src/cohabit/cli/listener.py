"""Where a server listens: the socket, and the certificate that it shows there."""

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from cohabit.cli.exits import Code, leave
from cohabit.config.errors import ConfigError

if TYPE_CHECKING:
    from cohabit.api.certificates import Certificate
    from cohabit.config.model import Config


@dataclass(frozen=True, slots=True)
class Listener:
    """Both."""

    socket: socket.socket
    certificate: "Certificate | None"

    @property
    def url(self) -> str:
        """For clients on this machine."""
        host, port = self.socket.getsockname()[:2]
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"


def certificate_of(config: "Config") -> "Certificate | None":
    """Whether clients will take it is said on standard error. Raises ConfigError."""
    from cohabit.api.certificates import Certificate, CertificateError, Files

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


def listen(host: str, port: int) -> socket.socket:
    """Raises what ends the command."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)
    except OSError as error:
        raise leave(Code.FAILED, f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return listening
