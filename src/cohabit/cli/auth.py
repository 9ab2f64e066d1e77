"""Whether keys are asked for, and what must be there before a server may listen where others can reach it."""

from ipaddress import ip_address
from typing import TYPE_CHECKING

import typer

from cohabit.cli.exits import Code, leave

if TYPE_CHECKING:
    from cohabit.api.middleware.auth import AuthConfig
    from cohabit.config.model import ServerConfig


def lock_for(server: "ServerConfig", address: str) -> "AuthConfig | None":
    """None where no key is asked for. ``address`` is what the server is bound to.

    Raises BrokenKeys, and Exit: where keys are asked for and there is none, nobody could come in.
    """
    import time

    from cohabit.access.keys_file import Keyring
    from cohabit.access.limits import Limits
    from cohabit.api.middleware.auth import AuthConfig
    from cohabit.config.paths import keys_file

    here = ip_address(address).is_loopback
    if server.keys is False or (server.keys is None and here):
        if not here:
            typer.echo(f"warning: anybody who reaches {address} may use this server; see docs/keys.md", err=True)
        return None
    keyring = Keyring(keys_file())
    if not keyring:
        why = "server.keys is true" if server.keys else f"{address} can be reached by others"
        raise leave(
            Code.BAD_CONFIG,
            f"{why} and no key has been made: make one with `cohabit keys add NAME`"
            + ("" if server.keys else ", or set server.keys: false"),
        )
    return AuthConfig(keyring, Limits(time.monotonic), open_health=server.open_health)
