"""How many connections a server takes: each needs a file descriptor, and so does all else that it opens.

Without a descriptor no worker can be started and no device be read, so clients must not be able to take the last one.
"""

import resource
from collections.abc import Callable
from typing import TYPE_CHECKING

from cohabit.config.load import with_connections
from cohabit.server.listener import StartError

if TYPE_CHECKING:
    from cohabit.config.model import Config

_OTHERS = 64  # the server's own: its socket, the database, the journal, what it reads of the system, what it fetches
_OF_A_MODEL = 8  # its worker's link and output, its weights while they are fetched or converted


def with_descriptors(config: "Config", *, tls: bool, tell: Callable[[str], None]) -> "Config":
    """The same config with as many connections as there may be; ``tell`` gets one line if those are fewer.

    Raises this process's own limit of open files as far as it may. Raises StartError if there is not even one
    descriptor for a client.
    """
    # Those beyond the limit are refused, so taken too; as many again may be at their handshake.
    of_a_connection = 3 if tls else 2
    others = _OTHERS + _OF_A_MODEL * len(config.models)
    wanted = config.server.max_connections
    limit = _raised(others + of_a_connection * wanted)
    most = (limit - others) // of_a_connection
    if most >= wanted:
        return config
    hint = "raise the limit, as with `ulimit -n` or LimitNOFILE= in a systemd unit"
    if most < 1:
        raise StartError(f"{limit} files may be open, and at least {others + of_a_connection} are needed; {hint}")
    tell(f"{limit} files may be open, so {most} connections are taken instead of {wanted}; {hint}")
    return with_connections(config, most)


def _raised(wanted: int) -> int:
    """Raise the limit of open files, often 1024, to so many, or as far as it may be; what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        return most
    return wanted if soft == resource.RLIM_INFINITY else soft
