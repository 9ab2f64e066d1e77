"""``cohabit simulate``: the production core over a trace in virtual time, and traces to try it with."""

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cohabit.cli.output import Code, leave, one_line
from cohabit.cli.plan import BudgetOption

if TYPE_CHECKING:
    from cohabit.simulate.generator import Shape
    from cohabit.simulate.timeline import TimelineRow

PICTURES = (".png", ".svg")


class PolicyName(StrEnum):
    """As in the config."""

    GDSF = "gdsf"
    LRU = "lru"


def simulate(
    trace: Annotated[
        Path | None,
        typer.Argument(
            metavar="[TRACE]",
            help='Lines such as {"at": 0.5, "model": "llm", "run_seconds": 2}; `client`, `background` may follow.',
        ),
    ] = None,
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="SIM.yaml",
            help="A config in which every engine is `fake`. `load_seconds` and `wake_seconds` of a model stand in "
            "its options or directly under it; device.budget is a size.",
        ),
    ] = None,
    policy: Annotated[
        list[PolicyName] | None, typer.Option(help="Instead of the config's; give it twice to compare both.")
    ] = None,
    budget: BudgetOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs; of two policies, an object by policy.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw what each model did, as .png or .svg; for one policy.")
    ] = None,
    generate: Annotated[bool, typer.Option("--generate", help="Make a trace instead; the options below.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the trace here, not to the output.")] = None,
    config_out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a config with made-up models that goes with it.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed and options make the same trace.")] = 0,
    models: Annotated[int, typer.Option(min=1, max=1_000, help="How many.")] = 87,
    requests: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many.")] = 10_000,
    seconds: Annotated[
        float | None, typer.Option(min=0, help="From the first to the last; default: half a run at any time.")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=1e-9, help="Requests a second, instead of --seconds.")] = None,
    zipf: Annotated[
        float | None,
        typer.Option(min=0, max=10, help="Exponent of the popularity; default: --top-one and --top-five hold."),
    ] = None,
    top_one: Annotated[float, typer.Option(min=0, max=1, help="The most popular model's share of requests.")] = 0.31,
    top_five: Annotated[float, typer.Option(min=0, max=1, help="The five most popular models' share.")] = 0.70,
    changes: Annotated[
        float, typer.Option(min=0, max=1, help="Share of consecutive requests that change model.")
    ] = 0.75,
    cv: Annotated[float, typer.Option(min=1, max=100, help="Coefficient of variation of the gaps: bursts.")] = 12.0,
    run_p50: Annotated[float, typer.Option(min=0, help="Half of the runs last longer, in seconds.")] = 23.0,
    run_p99: Annotated[float, typer.Option(min=0, help="One run in a hundred lasts longer.")] = 106.0,
    cache: Annotated[
        float, typer.Option(min=0.001, max=1, help="Share of all models' bytes that --config-out has a budget for.")
    ] = 0.3,
) -> None:
    """Replay a trace of requests through the server's own decisions in virtual time; starts nothing, needs no device.

    Prints what was served and rejected, loads and the seconds they took, evictions by cause, how long requests
    waited for their dispatch, and the share of the time during which at least one ran. Every request is seen to
    its end. A run takes as long however many run beside it; sizes are those of `cohabit plan`; what a load costs
    is known from the start. To try it:

    cohabit simulate --generate --out trace.jsonl --config-out sim.yaml

    cohabit simulate trace.jsonl --config sim.yaml --policy gdsf --policy lru

    Exits with 2 if the config or the trace is wrong and with 3 if a model can never fit.
    """
    if generate:
        if trace is not None or config is not None:
            raise leave(Code.BAD_CONFIG, "--generate makes a trace and takes none; give it no TRACE and no --config")
        if seconds is not None and rate is not None:
            raise leave(Code.BAD_CONFIG, "--seconds and --rate say the same thing; give one of them")
        from cohabit.simulate.generator import Shape

        shape = Shape(
            models=models,
            requests=requests,
            seconds=requests / rate if rate is not None else seconds,
            zipf=zipf,
            top_one=top_one,
            top_five=top_five,
            changes=changes,
            cv=cv,
            run_p50=run_p50,
            run_p99=run_p99,
        )
        _generate(shape, seed, out, config_out, cache)
        return
    if trace is None or config is None:
        raise leave(Code.BAD_CONFIG, "give a TRACE and a --config, or --generate to make both")
    policies = [name.value for name in dict.fromkeys(policy or [])]
    _replay(trace, config, budget=budget, policies=policies, as_json=as_json, plot=plot)


def _generate(shape: "Shape", seed: int, out: Path | None, config_out: Path | None, cache: float) -> None:
    from cohabit.simulate.generator import ShapeError, generate, synthetic_config
    from cohabit.simulate.traces import write_trace

    try:
        made = generate(shape, seed)
    except ShapeError as error:
        raise leave(Code.BAD_CONFIG, str(error)) from None
    try:
        if config_out is not None:
            config_out.write_text(synthetic_config(shape.models, seed, cache=cache), encoding="utf-8")
        if out is None:
            write_trace(made, sys.stdout)
        else:
            with out.open("w", encoding="utf-8") as file:
                write_trace(made, file)
    except OSError as error:
        raise leave(Code.FAILED, f"{error.filename}: cannot be written: {error.strerror}") from None


def _replay(
    trace: Path, config: Path, *, budget: str | None, policies: list[str], as_json: bool, plot: Path | None
) -> None:
    from cohabit.core.eviction import Policy
    from cohabit.simulate.fleet import load_fleet, run_trace
    from cohabit.simulate.report import as_table, report
    from cohabit.simulate.shell import Stuck
    from cohabit.simulate.timeline import Timeline
    from cohabit.simulate.traces import TraceError, read_trace

    if plot is not None:
        _can_draw(plot, policies)
    with one_line():
        fleet = load_fleet(config, budget)
    if fleet.plan.never:
        raise leave(Code.NEVER_FITS, fleet.plan.verdict)
    try:
        arrivals = read_trace(trace, fleet.aliases)
    except TraceError as error:
        raise leave(Code.BAD_CONFIG, str(error)) from None
    timeline = Timeline()
    observers = [timeline.handled] if plot is not None else []
    try:
        reports = [
            report(run_trace(fleet, arrivals, Policy(name), observers), name)
            for name in policies or [fleet.policy.value]
        ]
    except Stuck as error:
        raise leave(Code.FAILED, f"this is a bug of cohabit, please report it: {error}") from None
    if as_json:
        typer.echo(json.dumps(reports[0] if len(reports) == 1 else {one["policy"]: one for one in reports}, indent=2))
    else:
        typer.echo(as_table(reports))
    if plot is not None:
        timeline.close()
        rows = {name: timeline.rows[name] for name in fleet.policies if name in timeline.rows}
        title = f"{trace.name}, {reports[0]['policy']}: {reports[0]['serving_share']:.0%} of the time serves"
        _draw(rows, timeline.ended, plot, title)


def _can_draw(plot: Path, policies: list[str]) -> None:
    """Before the work, not after it."""
    from importlib.util import find_spec

    if plot.suffix.lower() not in PICTURES:
        raise leave(Code.BAD_CONFIG, f"--plot {plot}: the name must end in {' or '.join(PICTURES)}")
    if len(policies) > 1:
        raise leave(Code.BAD_CONFIG, "--plot draws one policy; give one --policy")
    if find_spec("matplotlib") is None:
        raise leave(Code.FAILED, "--plot needs matplotlib: pip install 'cohabit[plot]'")


def _draw(rows: "dict[str, TimelineRow]", ended: float, plot: Path, title: str) -> None:
    from cohabit.simulate.plot import draw

    try:
        draw(rows, ended, plot, title)
    except OSError as error:
        raise leave(Code.FAILED, f"{plot}: cannot be written: {error.strerror or error}") from None
