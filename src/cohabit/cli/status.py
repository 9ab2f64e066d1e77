"""``cohabit status``: what a running server is doing."""

import json
from collections import Counter
from typing import Annotated, Any

import typer

from cohabit.cli.client import HERE, Url, ask, understood


def status(
    *,
    url: Url = HERE,
    as_json: Annotated[bool, typer.Option("--json", help="The whole snapshot, for programs.")] = False,
) -> None:
    """Show what holds the memory of a running server, and what each request waits for.

    Exits with 1 if it does not answer.
    """
    state = ask("GET", url, "/admin/status", seconds=5.0)
    with understood(url):
        text = as_text(state)
    typer.echo(json.dumps(state, indent=2) if as_json else text)


def as_text(state: dict[str, Any]) -> str:
    """The snapshot for people."""
    from cohabit.runtime.plan import mib

    lines = [
        f"{device['name']}: {mib(device['reserved'])} of {mib(device['effective_budget'])} reserved, "
        f"{mib(device['foreign'])} used by others, {device['slots_used']} of {device['compute_slots']} slots busy"
        for device in state["devices"]
    ]
    width = max(len(model["name"]) for model in state["models"])
    wide = max(8, *(len(model["state"]) for model in state["models"]))
    for model in state["models"]:
        line = (
            f"{model['name']:<{width}}  {model['state']:<{wide}}  {mib(model['reserved']):>10}  "
            f"{model['in_flight']} running, {model['waiting']} waiting, {model['loads']} loads"
        )
        reason = model["failure"] if model["state"] == "failed" else model["last_eviction"]
        lines.append(f"{line}  ({reason})" if reason else line)
    lines += [
        f"waiting {request['waited_seconds']:.1f} s for {request['waits_for']}: {request['model']}, "
        f"number {request['position']}, about {request['expected_seconds']:.1f} s more"
        for request in state["requests"]
        if request["state"] == "waiting"
    ]
    listed = Counter(request["model"] for request in state["requests"] if request["state"] == "waiting")
    lines += [
        f"{model['waiting'] - listed[model['name']]} more wait for {model['name']}"
        for model in state["models"]
        if model["waiting"] > listed[model["name"]]
    ]
    if state["swap"]:
        lines.append(f"making {mib(state['swap']['need'])} of room {state['swap']['why']}")
    lines += [f"{alert['severity']}: {alert['text']}" for alert in state["alerts"]]
    return "\n".join(lines)
