"""``cohabit load``, ``sleep``, ``unload``, ``pin``, ``unpin``: an owner's word to a running server."""

from typing import Annotated

import typer

from cohabit.cli.client import HERE, Url, ask, understood

_Model = Annotated[str, typer.Argument(help="Its name or an alias.")]
_Wait = Annotated[float, typer.Option(min=0, max=600, help="Seconds to wait until it is done.")]


def load(model: _Model, *, url: Url = HERE, wait: _Wait = 60.0) -> None:
    """Load a model on a running server. Exits with 1 if it cannot be done."""
    _post(url, model, "load", wait)


def sleep(model: _Model, *, url: Url = HERE, wait: _Wait = 60.0) -> None:
    """Put a model to sleep once its running requests have ended. Exits with 1 if it cannot be done."""
    _post(url, model, "sleep", wait)


def unload(model: _Model, *, url: Url = HERE, wait: _Wait = 60.0) -> None:
    """Unload a model once its running requests have ended. Exits with 1 if it cannot be done."""
    _post(url, model, "unload", wait)


def pin(model: _Model, *, url: Url = HERE) -> None:
    """Never evict a model while the server runs. Exits with 1 if it cannot be done."""
    _post(url, model, "pin", 1.0)


def unpin(model: _Model, *, url: Url = HERE) -> None:
    """Let a model be evicted like any other. Exits with 1 if it cannot be done."""
    _post(url, model, "unpin", 1.0)


def _post(url: str, model: str, what: str, wait: float) -> None:
    from urllib.parse import quote

    place = f"/admin/models/{quote(model, safe='')}/{what}"
    found = ask("POST", url, place, seconds=wait + 10.0, wait=wait)
    with understood(url):
        text = f"{found['model']}: {found['outcome'].replace('_', ' ')}, it is {found['state']}"
    typer.echo(text)
