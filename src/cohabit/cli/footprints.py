"""``cohabit footprints``: what was measured of models, and how to have it measured anew."""

from typing import TYPE_CHECKING, Annotated

import typer

from cohabit.cli.output import Code, leave, one_line
from cohabit.cli.plan import ConfigArgument

if TYPE_CHECKING:
    from cohabit.runtime.profile_store import Profile, ProfileStore

app = typer.Typer(help="What was measured of models, for the next start.", no_args_is_help=True)

_Model = Annotated[
    str | None, typer.Argument(metavar="[MODEL]", help="A name as `cohabit footprints list` shows it.")
]


@app.command("list")
def show(config: ConfigArgument = None) -> None:
    """Show what was measured, of the models of a config or of all; and in which file it is kept."""
    from datetime import UTC, datetime

    from cohabit.cli.output import aligned
    from cohabit.runtime.plan import mib

    kept = _kept()
    found = kept.all()
    if config is not None:
        wanted = _keys_of(config)
        found = {key: profile for key, profile in found.items() if key in wanted}

    def row(key: str, profile: "Profile") -> tuple[str, ...]:
        at = kept.measured_at(key)
        when = "-" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")
        sizes = (profile.idle, profile.idle + profile.activation, profile.load, profile.sleep_resident)
        engine = key.rpartition("-")[0]
        return profile.model, engine, *("-" if size is None else mib(size) for size in sizes), when

    if found:
        head = ("model", "engine", "idle", "inference", "load", "sleeping", "last measured (UTC)")
        lines = [row(key, profile) for key, profile in found.items()]
        typer.echo("\n".join(aligned([head, *lines], right={2, 3, 4, 5})))
    else:
        of = "" if config is None else " of the models of this config, as they are configured now"
        typer.echo(f"nothing was measured yet{of}", err=True)
    typer.echo(f"kept in {kept.path}")


@app.command()
def forget(
    model: _Model = None,
    *,
    everything: Annotated[bool, typer.Option("--all", help="Of all models.")] = False,
) -> None:
    """Drop what was measured of a model. Until it is measured anew, what is declared or estimated counts.

    A server that runs goes on with what it knows: restart it.
    """
    from cohabit.runtime.profile_store import FootprintsUnwritable

    if (model is None) is not everything:
        raise leave(Code.BAD_CONFIG, "name a model, or give --all")
    try:
        gone = _kept().forget(lambda _key, profile: everything or profile.model == model)
    except FootprintsUnwritable as error:
        raise leave(Code.FAILED, str(error)) from None
    if not gone and not everything:
        raise leave(Code.FAILED, f"nothing was measured of {model}; `cohabit footprints list` shows the names")
    typer.echo(f"forgotten: {', '.join(profile.model for profile in gone) or 'nothing, since nothing was measured'}")


def _kept() -> "ProfileStore":
    from cohabit.config.paths import footprints_file
    from cohabit.runtime.profile_store import ProfileStore

    return ProfileStore(footprints_file())


def _keys_of(config: str) -> set[str]:
    from cohabit.config.load import load_config
    from cohabit.runtime.profile_store import profile_key

    with one_line():
        loaded = load_config(config)
    return {profile_key(model, loaded.device.kind) for model in loaded.models.values()}
