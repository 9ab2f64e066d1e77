"""Whether a server needs keys, and the server's keys."""

import os
import re
import socket
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

import typer

from cohabit.cli.exits import Code, leave

if TYPE_CHECKING:
    from cohabit.access.keyring import Keyring
    from cohabit.config.model import ServerConfig

VARIABLE = "COHABIT_API_KEY"
FROM_ENVIRONMENT = f"A server that wants a key is sent the one in the environment's {VARIABLE}."

_SENDABLE = re.compile(r"[!-~]+")


def keyring_for(server: "ServerConfig", address: str) -> "Keyring | None":
    """The keys of a server at this IP address; None where it needs none.

    Leaves with 2 if nobody could use it, for there are no keys, or for they cannot be read.
    """
    from cohabit.access.errors import KeysError
    from cohabit.access.keyring import Keyring
    from cohabit.config.paths import keys_file

    others = not is_loopback(address)
    if server.keys is False and others:
        typer.echo(f"warning: whoever reaches {address} may use this server, since server.keys is false", err=True)
    if not (others if server.keys is None else server.keys):
        return None
    try:
        keyring = Keyring(keys_file())
    except KeysError as error:
        raise leave(Code.BAD_CONFIG, str(error)) from None
    if not len(keyring):
        why = f"{address} can be reached by others" if server.keys is None else "server.keys is true"
        without = "" if server.keys else ", or let everybody in with `server.keys: false`"
        raise leave(Code.BAD_CONFIG, f"{why} and there is no key yet: make one with `cohabit keys add NAME`{without}")
    return keyring


def is_loopback(address: str) -> bool:
    """Whether what listens on this IP address can only be reached from this machine."""
    found = ip_address(address)
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return found.is_loopback


def resolved(host: str) -> str | None:
    """The IP address that listening on a host would take; None if there is none now."""
    try:
        return str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError:
        return None


def credentials(url: str) -> dict[str, str]:
    """Headers with which our own commands ask a server. Leaves with 2 where that would show or break the key."""
    from urllib.parse import urlsplit

    try:
        named = "@" in urlsplit(url).netloc
    except ValueError:
        named = False  # whoever asks will say so
    if named:
        raise leave(Code.BAD_CONFIG, f"--url: keys in an address can be seen by others; use {VARIABLE}")
    secret = os.environ.get(VARIABLE, "").strip()
    if not secret:
        return {}
    if _SENDABLE.fullmatch(secret) is None:  # an error of what sends it would quote it
        raise leave(Code.BAD_CONFIG, f"{VARIABLE}: has characters that no key has")
    return {"authorization": f"Bearer {secret}"}
