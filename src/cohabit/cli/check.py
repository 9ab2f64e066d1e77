"""``cohabit check``: is this config right, and could everything in it be served here?"""

import socket
from contextlib import suppress
from typing import Annotated

import typer

from cohabit.cli.output import Code, leave, one_line, warn
from cohabit.cli.plan import plan_of
from cohabit.config.load import load_config
from cohabit.server.prepare import auth_for, certificate_of


def check(config: Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file or a preset's name.")]) -> None:
    """Check a config: its fields, its engines, its certificate, whether every model can ever fit. Starts nothing.

    Exits with 1 if an engine is not installed, 2 if the config is wrong or needs a key and none has been made, 3 if a
    model can never fit.
    """
    from cohabit.server.assemble import missing_engines

    with one_line():
        loaded = load_config(config)
        certificate_of(loaded, warn)
        missing = missing_engines(loaded)
        made = plan_of(loaded)
    with one_line(), suppress(OSError):  # a name that means nothing on this machine may do so on the server's
        auth_for(loaded.server, str(socket.getaddrinfo(loaded.server.host, None)[0][4][0]), warn)
    if missing:
        raise leave(Code.FAILED, "; ".join(missing))
    if made.never:
        raise leave(Code.NEVER_FITS, made.verdict)
    typer.echo(f"ok: {len(made.rows)} models, {made.verdict}")
