"""``cohabit``: the app and its commands."""

from typing import Annotated

import typer

from cohabit.cli.admin import load, pin, sleep, unload, unpin
from cohabit.cli.check import check
from cohabit.cli.footprints import app as footprints
from cohabit.cli.keys import app as keys
from cohabit.cli.measure import measure
from cohabit.cli.plan import plan
from cohabit.cli.pull import pull
from cohabit.cli.replay import replay
from cohabit.cli.schema import schema
from cohabit.cli.serve import serve
from cohabit.cli.simulate import simulate
from cohabit.cli.status import status

app = typer.Typer(
    name="cohabit",
    help="Serve many AI models of different kinds from one GPU, through one OpenAI-compatible server.\n\n"
    "CONFIG is a YAML file or the name of a preset; without one it is the preset `embedded`: small real "
    "models that need no GPU.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("cohabit"))
        raise typer.Exit


@app.callback()
def main(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Serve many AI models of different kinds from one GPU."""


for command in (serve, plan, pull, measure, check, status, load, sleep, unload, pin, unpin, simulate, replay, schema):
    app.command()(command)
app.add_typer(keys, name="keys")
app.add_typer(footprints, name="footprints")
