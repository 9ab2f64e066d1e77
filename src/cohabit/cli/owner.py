"""``cohabit load``, ``sleep``, ``unload``, ``pin``, ``unpin``: an owner's word to a running server."""

from typing import Annotated

import typer

from cohabit.cli.access import FROM_ENVIRONMENT, credentials
from cohabit.cli.exits import Code, leave

_Model = Annotated[str, typer.Argument(help="Its name or an alias.")]
_Url = Annotated[str, typer.Option(help=f"Where the server is. {FROM_ENVIRONMENT}")]
_Wait = Annotated[float, typer.Option(min=0, max=600, help="Seconds to wait until it is done.")]
_HERE = "http://127.0.0.1:8000"


def load(model: _Model, *, url: _Url = _HERE, wait: _Wait = 60.0) -> None:
    """Bring a model in on a running server. Exits with 1 if it cannot be done."""
    _tell(url, model, "load", wait)


def sleep(model: _Model, *, url: _Url = _HERE, wait: _Wait = 60.0) -> None:
    """Let a model fall asleep once what runs on it has ended. Exits with 1 if it cannot be done."""
    _tell(url, model, "sleep", wait)


def unload(model: _Model, *, url: _Url = _HERE, wait: _Wait = 60.0) -> None:
    """Stop a model once what runs on it has ended. Exits with 1 if it cannot be done."""
    _tell(url, model, "unload", wait)


def pin(model: _Model, *, url: _Url = _HERE) -> None:
    """Never evict a model while the server runs. Exits with 1 if it cannot be done."""
    _tell(url, model, "pin", 1.0)


def unpin(model: _Model, *, url: _Url = _HERE) -> None:
    """Let a model be evicted like any other. Exits with 1 if it cannot be done."""
    _tell(url, model, "unpin", 1.0)


def _tell(url: str, model: str, what: str, wait: float) -> None:
    from urllib.parse import quote

    import httpx2

    headers = credentials(url)
    place = f"{url.rstrip('/')}/admin/models/{quote(model, safe='')}/{what}"
    try:
        answer = httpx2.post(place, params={"wait": wait}, headers=headers, timeout=wait + 10.0)
        found = answer.json()
        if answer.is_error:
            raise leave(Code.FAILED, found["error"]["message"])
        typer.echo(f"{found['model']}: {found['outcome'].replace('_', ' ')}, it is {found['state']}")
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, KeyError, TypeError) as error:
        why = (str(error) or type(error).__name__).splitlines()[0]
        raise leave(Code.FAILED, f"no answer from {url}: {why}") from None
