"""``cohabit measure``: what every model of a config takes on this machine."""

from functools import partial
from typing import TYPE_CHECKING

import typer

from cohabit.cli.output import Code, aligned, one_line
from cohabit.cli.plan import ConfigArgument
from cohabit.cli.pull import fetch_missing
from cohabit.config.load import load_config

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from cohabit.config.model import Config
    from cohabit.runtime.measure import Figures
    from cohabit.runtime.plan import Plan
    from cohabit.runtime.profile_store import ProfileStore


def measure(config: ConfigArgument = None) -> None:
    """Load every model in turn, run large requests, let it sleep and wake, and keep the figures.

    What is measured is used from the next start on. Nothing else should run meanwhile. Exits with 1 if a model
    could not be measured, 2 if the config is wrong, 3 if one turns out never to fit.
    """
    import uvloop

    from cohabit.config.paths import footprints_file, weights_dir
    from cohabit.devices import device_for, host_available
    from cohabit.observability.logs import configure
    from cohabit.runtime.plan import make_plan
    from cohabit.runtime.profile_store import ProfileStore

    configure("error")  # the bar and one line a model say the rest
    footprints = ProfileStore(footprints_file())
    with one_line():
        loaded = load_config(config)
        fetch_missing(loaded)  # what cannot be had is told when its model's turn comes
        device = device_for(loaded.device.kind)
        total, host = device.total_bytes(), host_available()
        plan = make_plan(loaded, total=total, host=host, footprints=footprints, weights=weights_dir())
        figures, failures = uvloop.run(_measured(loaded, plan, device.read({}).available, footprints))
        plan = make_plan(loaded, total=total, host=host, footprints=footprints, weights=weights_dir())
    if figures:
        typer.echo(as_table(figures))
    typer.echo(f"verdict: {plan.verdict}")
    for name, why in failures.items():
        typer.echo(f"{name}: {why}", err=True)
    if plan.never:
        raise typer.Exit(Code.NEVER_FITS)
    if failures:
        raise typer.Exit(Code.FAILED)


async def _measured(
    config: "Config", plan: "Plan", available: int, footprints: "ProfileStore"
) -> tuple[dict[str, "Figures"], dict[str, str]]:
    """By model: what it takes, or why that is not known."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from cohabit.config import defaults
    from cohabit.config.paths import derived_dir, weights_dir
    from cohabit.runtime.calibration import batches
    from cohabit.runtime.inspectors import Inspectors
    from cohabit.runtime.measure import STEPS, MeasureFailed, Measurer
    from cohabit.runtime.plan import mib
    from cohabit.runtime.profile_store import profile_key
    from cohabit.server.assemble import launches

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    inspectors = Inspectors()
    measurer = Measurer(launches(config, weights_dir(), derived_dir()), defaults.place(config))
    figures: dict[str, Figures] = {}
    failures: dict[str, str] = {}
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("", total=len(plan.rows) * len(STEPS))
        for number, row in enumerate(plan.rows):
            name, need = row.name, row.footprint.load_need
            bars.console.print(f"measuring {name}", highlight=False, markup=False)
            show = partial(_show, bars, bar, name, number * len(STEPS))
            if need > available:
                failures[name] = f"it is thought to need {mib(need)} and only {mib(available)} are free here"
                continue
            try:
                policy = defaults.model_policy(config, name)
                requests = await batches(config, name, partial(inspectors.inspect, client="measure"))
                found = await measurer.measure(policy, requests, show)
            except MeasureFailed as failure:
                failures[name] = str(failure)
                continue
            figures[name] = found
            key = profile_key(config.models[name], config.device.kind)
            footprints.record(key, found.profile(name, footprints.find(key)))
    await inspectors.close()
    return figures, failures


def _show(bars: "Progress", bar: "TaskID", name: str, before: int, step: str) -> None:
    from cohabit.runtime.measure import STEPS

    bars.update(bar, description=f"{name}: {step}", completed=before + STEPS.index(step))


def as_table(figures: dict[str, "Figures"]) -> str:
    """For people."""
    from cohabit.runtime.plan import mib

    def size(amount: int | None) -> str:
        return "-" if amount is None else mib(amount)

    def time(seconds: float | None) -> str:
        return "-" if seconds is None else f"{seconds:.2f} s"

    copies = any(one.host_copy for one in figures.values())
    head = ["model", "idle", "inference", "load", "load time", "sleep", "wake", "sleeping", *["host copy"] * copies]
    rows = [
        [
            *(name, size(one.idle), size(one.peak), size(one.load)),
            *(time(one.load_seconds), time(one.sleep_seconds), time(one.wake_seconds), size(one.sleep_resident)),
            *[size(one.host_copy)] * copies,
        ]
        for name, one in figures.items()
    ]
    head_line, *lines = aligned([head, *rows], right=range(1, len(head)))
    return "\n".join([head_line, "-" * len(head_line), *lines])
