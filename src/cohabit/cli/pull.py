"""``cohabit pull``: fetch what a config needs, ahead."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from cohabit.config import defaults
from cohabit.config.errors import ConfigError
from cohabit.config.load import load_config
from cohabit.config.model import Config
from cohabit.config.paths import derived_dir, weights_dir
from cohabit.protocol.engine import Derivation
from cohabit.sources import Bundled, PypiSource, SourceError, Step, cached, derive, derived, parse, resolve, verify

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

FAILED, BAD_CONFIG = 1, 2  # exit codes


class Wanted(NamedTuple):
    """One file or folder that a model needs."""

    source: str
    derivation: Derivation | None = None  # what must be made of it before it can be used

    def here(self, base: Path) -> bool:
        """Whether nothing has to be fetched or made; not if that cannot be told either."""
        if isinstance(parse(self.source), Bundled):
            return True
        try:
            found = cached(self.source, weights_dir=weights_dir(), base_dir=base)
            return found is not None and derived(found, self.derivation, derived_dir()) is not None
        except SourceError:
            return False


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

    Prints where each file is. Exits with 1 if anything cannot be had, with 2 if the config is wrong.
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


def wanted(config: Config) -> dict[str, Wanted]:
    """By who wants it: ``llm``, ``embeddings tokenizer``."""
    found: dict[str, Wanted] = {}
    for name, model in config.models.items():
        derivations = defaults.derivations(model)
        if model.source is not None:
            found[name] = Wanted(model.source, derivations.get("source"))
        for role, source in model.files.items():
            found[f"{name} {role}"] = Wanted(source, derivations.get(role))
    return found


def fetch_missing(config: Config) -> dict[str, SourceError]:
    """Fetch and convert what is not here yet, with progress on standard error; why some could not be had.

    What is left to the first request keeps a device empty that another model was stopped for.
    """
    missing = {user: one for user, one in wanted(config).items() if not one.here(config.base_dir)}
    return fetch(missing, config.base_dir, check=False)[1] if missing else {}


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
    weights = weights_dir()
    places: dict[str, Path | None] = {}
    failures: dict[str, SourceError] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        for user, (source, derivation) in needs.items():
            bar = bars.add_task(user, total=None, step="")
            show = partial(_show, bars, bar)
            try:
                reference = parse(source)
                if isinstance(reference, PypiSource) and cached(source, weights_dir=weights, base_dir=base) is None:
                    # also for a build's log, where no bar is drawn
                    bars.console.print(f"{user}: fetching {reference}", highlight=False, markup=False, soft_wrap=True)
                place = resolve(source, weights_dir=weights, base_dir=base, progress=show)
                if check:
                    verify(source, weights_dir=weights, base_dir=base, progress=show)
                if place is not None:
                    place = derive(place, derivation, derived_dir(), progress=show, check=check)
            except SourceError as error:
                failures[user] = error
            else:
                places[user] = place
            bars.remove_task(bar)
    return places, failures


def _show(bars: "Progress", bar: "TaskID", step: Step, done: int, total: int | None) -> None:
    bars.update(bar, step=step, completed=done, total=total)
