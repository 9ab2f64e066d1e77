"""``cohabit replay``: what a server decided, looked at afterwards."""

import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cohabit.cli.output import Code, leave
from cohabit.cli.status import as_text

if TYPE_CHECKING:
    from cohabit.observability.replay import Replay


def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A journal that `cohabit serve --journal` wrote.")],
    *,
    until: Annotated[int | None, typer.Option(min=0, metavar="N", help="Stop after so many events.")] = None,
    snapshot: Annotated[bool, typer.Option("--snapshot", help="Show the core's state at that point.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Run the events of a journal through the core again and compare the commands.

    Exits with 1 at the first event that gives other commands, with 2 if the file is not a journal.
    """
    from cohabit.observability.replay import JournalError, Replay

    try:
        run = Replay(file)
        run.run(until)
    except JournalError as error:
        raise leave(Code.BAD_CONFIG, str(error)) from None
    if as_json:
        typer.echo(json.dumps(_data(run, snapshot=snapshot), indent=2))
    else:
        typer.echo(_text(run))
        if snapshot:
            typer.echo(as_text(run.snapshot()))
    if run.difference is not None:
        raise typer.Exit(Code.FAILED)


def _text(run: "Replay") -> str:
    from importlib.metadata import version

    lines = [f"{run.events} events in {run.now - run.head.clock:.1f} s from {run.head.began}"]
    if run.cut_off:
        lines.append("the last line is cut off and left out: its server was killed")
    if run.head.cohabit != version("cohabit"):
        lines.append(f"recorded by cohabit {run.head.cohabit}, which may decide otherwise than {version('cohabit')}")
    difference = run.difference
    if difference is None:
        lines.append("all commands are the same")
    elif difference.raised is not None:
        lines.append(
            f"event {run.events} at {_utc(run)}, {difference.entry.event}: the core raised {difference.raised}"
        )
    else:
        lines += [
            f"event {run.events} at {_utc(run)} gives other commands: {difference.entry.event}",
            "recorded:",
            *(f"  {command}" for command in difference.entry.commands),
            "replayed:",
            *(f"  {command}" for command in difference.replayed),
        ]
    return "\n".join(lines)


def _data(run: "Replay", *, snapshot: bool) -> dict[str, Any]:
    import msgspec

    from cohabit.observability.journal_format import tagged

    found: dict[str, Any] = {
        "events": run.events,
        "same": run.difference is None,
        "cut_off": run.cut_off,
        "cohabit": run.head.cohabit,
        "began": run.head.began,
        "at": _utc(run),
    }
    if run.difference is not None:
        found["difference"] = {
            "event": tagged(run.difference.entry.event),
            "recorded": [tagged(command) for command in run.difference.entry.commands],
            "replayed": [tagged(command) for command in run.difference.replayed],
            "raised": run.difference.raised,
        }
    if snapshot:
        found["snapshot"] = run.snapshot()
    data: dict[str, Any] = msgspec.to_builtins(found, str_keys=True)
    return data


def _utc(run: "Replay") -> str:
    """When the last event was handled."""
    moment = datetime.fromisoformat(run.head.began) + timedelta(seconds=run.now - run.head.clock)
    return moment.isoformat(timespec="milliseconds")
