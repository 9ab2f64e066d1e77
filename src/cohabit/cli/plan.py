"""``cohabit plan``: the memory plan as a table."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cohabit.cli.output import Code, aligned, one_line
from cohabit.config.load import load_config, with_budget

if TYPE_CHECKING:
    from cohabit.config.model import Config
    from cohabit.runtime.plan import Plan

ConfigArgument = Annotated[str | None, typer.Argument(metavar="[CONFIG]", help="A YAML file or a preset's name.")]
BudgetOption = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Instead of the config's budget: 700MiB, 20GiB, 80%.")
]


def plan(
    config: ConfigArgument = None,
    *,
    budget: BudgetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what every model needs, where the figures come from, and whether all fit at once. Starts nothing.

    Exits with 2 if the config is wrong and with 3 if a model can never fit.
    """
    with one_line():
        made = plan_of(with_budget(load_config(config), budget))
    typer.echo(json.dumps(as_data(made), indent=2) if as_json else as_table(made))
    if made.never:
        raise typer.Exit(Code.NEVER_FITS)


def plan_of(config: "Config") -> "Plan":
    """The plan of a config on this machine. Raises DeviceError, SourceError."""
    from cohabit.config.paths import footprints_file, weights_dir
    from cohabit.devices import device_for, host_available
    from cohabit.runtime.plan import make_plan
    from cohabit.runtime.profile_store import ProfileStore

    total = device_for(config.device.kind).total_bytes()
    footprints = ProfileStore(footprints_file())
    return make_plan(config, total=total, host=host_available(), footprints=footprints, weights=weights_dir())


def as_data(made: "Plan") -> dict[str, Any]:
    """The plan for programs; bytes."""
    return {
        "device": {
            "kind": made.device,
            "total": made.total,
            "keep_free": made.keep_free,
            "inspection": made.inspection,
            "budget": made.budget,
            "host_cache": made.host_cache,
        },
        "models": [
            {
                "name": row.name,
                "engine": row.engine,
                "precision": row.precision,
                "idle": {"bytes": row.idle.size, "origin": row.idle.origin},
                "inference": {"bytes": row.footprint.inference.size, "origin": row.footprint.inference.origin},
                "load": {"bytes": row.footprint.load_need, "origin": row.footprint.load.origin},
                "peak": {"bytes": row.peak.size, "origin": row.peak.origin},
                "host_copy": None
                if (copy := row.footprint.host_copy) is None
                else {"bytes": copy.size, "origin": copy.origin},
                "fits": row.fits,
                "borne_out": row.borne_out,
            }
            for row in made.rows
        ],
        "idle": made.idle,
        "host_copies": made.copies,
        "needed": made.needed,
        "headroom": made.headroom,
        "verdict": made.verdict,
    }


def as_table(made: "Plan") -> str:
    """The plan for people."""
    from cohabit.runtime.plan import mib

    head = ("model", "engine", "precision", "idle", "inference", "load", "figures are")
    rows = [
        (
            row.name,
            row.engine,
            row.precision,
            mib(row.idle.size),
            mib(row.footprint.inference.size) + ("" if row.fits else " !"),
            mib(row.footprint.load_need),
            row.idle.origin if row.idle.origin == row.peak.origin else f"{row.idle.origin}, peak {row.peak.origin}",
        )
        for row in made.rows
    ]
    rows.append(("all", "", "", mib(made.idle), mib(made.needed), "", ""))
    lines = aligned([head, *rows], right={3, 4, 5})
    rule = "-" * len(lines[0])
    beyond = f"headroom {mib(made.headroom)}" if made.headroom >= 0 else f"{mib(-made.headroom)} short of all at once"
    return "\n".join(
        [
            lines[0],
            rule,
            *lines[1:-1],
            rule,
            lines[-1],
            f"budget {mib(made.budget)}; {beyond}",
            f"device {made.device} with {mib(made.total)}, {mib(made.keep_free)} kept free"
            + (f", {mib(made.inspection)} kept for opening pictures and sound" if made.inspection else ""),
            *made.notes,
            *([f"copies in host memory {mib(made.copies)}, allowed {mib(made.host_cache)}"] if made.copies else []),
            f"verdict: {made.verdict}",
        ]
    )
