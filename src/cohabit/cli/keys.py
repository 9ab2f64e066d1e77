"""``cohabit keys``: who may come in."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from cohabit.cli.output import Code, leave, one_line

if TYPE_CHECKING:
    from cohabit.access.keys import Key

app = typer.Typer(help="API keys. A running server sees a change within a second.", no_args_is_help=True)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_Name = Annotated[str, typer.Argument(help="Whose it is: it stands in the log, and in what belongs to it.")]
_Models = Annotated[
    str | None, typer.Option(help="Names or aliases of the models it may ask, with commas; `all` for all.")
]
_Minute = Annotated[int | None, typer.Option(min=0, help="Requests in any minute; 0 for no limit.")]
_Concurrent = Annotated[int | None, typer.Option(min=0, help="Requests at once; 0 for no limit.")]


@app.command()
def add(
    name: _Name,
    *,
    admin: Annotated[bool, typer.Option("--admin", help="It may also use /admin and /metrics.")] = False,
    models: _Models = None,
    requests_per_minute: _Minute = None,
    concurrent: _Concurrent = None,
) -> None:
    """Make a key and print it. It is not shown again: only its hash is kept."""
    from cohabit.access.keys import Key, digest_of, new_secret

    if _NAME.fullmatch(name) is None:
        raise leave(Code.BAD_CONFIG, "a name has up to 64 letters, digits and ._@- after a letter or a digit")
    secret = new_secret()
    with _edited() as keys:
        if name in keys:
            raise leave(Code.FAILED, f"there is a key {name} already; revoke it first, or take another name")
        key = Key(name=name, digest=digest_of(secret), created=int(time.time()), admin=admin)
        keys[name] = _changed(key, models, requests_per_minute, concurrent)
    typer.echo(secret)


@app.command("set")
def change(
    name: _Name,
    *,
    models: _Models = None,
    requests_per_minute: _Minute = None,
    concurrent: _Concurrent = None,
) -> None:
    """Change what a key may do. What is not named stays."""
    with _edited() as keys:
        if name not in keys:
            raise leave(Code.FAILED, f"there is no key {name}")
        keys[name] = _changed(keys[name], models, requests_per_minute, concurrent)


@app.command()
def revoke(name: _Name) -> None:
    """Make a key invalid. What runs with it still ends."""
    with _edited() as keys:
        if keys.pop(name, None) is None:
            raise leave(Code.FAILED, f"there is no key {name}")


@app.command("list")
def show() -> None:
    """Show all keys and what they may do; the keys themselves are nowhere."""
    from datetime import UTC, datetime

    from cohabit.access.keys_file import Keyring
    from cohabit.cli.output import aligned
    from cohabit.config.paths import keys_file

    with one_line():
        keys = Keyring(keys_file()).all()
    rows = [
        (
            key.name,
            datetime.fromtimestamp(key.created, UTC).strftime("%Y-%m-%d"),
            "admin" if key.admin else "user",
            _number(key.requests_per_minute),
            _number(key.concurrent),
            "all" if key.models is None else ", ".join(key.models),
        )
        for key in keys
    ]
    if not rows:
        typer.echo("no key has been made; `cohabit keys add NAME` makes one", err=True)
        return
    head = ("name", "made", "kind", "a minute", "at once", "models")
    typer.echo("\n".join(aligned([head, *rows], right={3, 4})))


def _number(limit: int | None) -> str:
    return "any" if limit is None else str(limit)


def _changed(key: "Key", models: str | None, requests_per_minute: int | None, concurrent: int | None) -> "Key":
    """With what was named; 0 and ``all`` take a limit away."""
    from msgspec.structs import replace

    if models is not None:
        names = tuple(filter(None, map(str.strip, models.split(","))))
        if not names:
            raise leave(Code.BAD_CONFIG, "--models needs names with commas between, or `all`")
        key = replace(key, models=None if names == ("all",) else names)
    if requests_per_minute is not None:
        key = replace(key, requests_per_minute=requests_per_minute or None)
    if concurrent is not None:
        key = replace(key, concurrent=concurrent or None)
    return key


@contextmanager
def _edited() -> "Iterator[dict[str, Key]]":
    from cohabit.access.keys_file import edited
    from cohabit.config.paths import keys_file

    try:
        with one_line(), edited(keys_file()) as keys:
            yield keys
    except OSError as error:
        raise leave(Code.FAILED, f"{keys_file()}: cannot be written: {error.strerror or error}") from None
