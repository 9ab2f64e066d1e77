"""``cohabit keys``: who may use a server."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cohabit.cli.exits import Code, leave
from cohabit.cli.tables import aligned

if TYPE_CHECKING:
    from cohabit.access.keys import Key

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

MOST_PER_MINUTE = 100_000

_Name = Annotated[str, typer.Argument(help="What it is called in the log; it also owns files and batches.")]
_Models = Annotated[
    str | None, typer.Option(help="Names or aliases, with commas between; nothing else may be used. `all` for any.")
]
_PerMinute = Annotated[
    int | None,
    typer.Option("--requests-per-minute", min=0, max=MOST_PER_MINUTE, help="More get 429. 0 for no limit."),
]
_Concurrent = Annotated[int | None, typer.Option(min=0, help="Requests at once; more get 429. 0 for no limit.")]


@app.callback()
def main() -> None:
    """Who may use a server. Running servers heed a change within a second.

    Kept in the state folder, so to be run as the user, and with the COHABIT_HOME, that servers run with.
    """


@app.command()
def add(
    name: _Name,
    *,
    admin: Annotated[bool, typer.Option("--admin", help="It may do everything, /admin/ and /metrics too.")] = False,
    models: _Models = None,
    per_minute: _PerMinute = None,
    concurrent: _Concurrent = None,
) -> None:
    """Make a key and print it, this once: only a hash of it is kept. Exits with 1 if there is one of that name."""
    from cohabit.access.keyfile import editing
    from cohabit.access.keys import NAME, Key, digest_of, new_secret
    from cohabit.config.paths import keys_file

    if NAME.fullmatch(name) is None:
        message = "NAME: use up to 64 letters, digits and . _ - beginning with a letter or digit"
        raise leave(Code.BAD_CONFIG, message)
    secret = new_secret()
    made = Key(name=name, digest=digest_of(secret.encode()), admin=admin, created=time.time())
    made = _limited(made, models, per_minute, concurrent)
    with _one_line(), editing(keys_file()) as keys:
        if name in keys:
            raise leave(Code.FAILED, "there is a key of that name; revoke it first, or take another name")
        keys[name] = made
    typer.echo(secret)
    typer.echo("keep it: it cannot be shown again", err=True)


@app.command("set")
def set_limits(
    name: _Name, *, models: _Models = None, per_minute: _PerMinute = None, concurrent: _Concurrent = None
) -> None:
    """Change the limits of a key; those that are not named stay. Exits with 1 if there is no such key."""
    from cohabit.access.keyfile import editing
    from cohabit.config.paths import keys_file

    with _one_line(), editing(keys_file()) as keys:
        keys[name] = _limited(_found(keys, name), models, per_minute, concurrent)


@app.command("list")
def list_keys() -> None:
    """Show all keys by name, with what they may do."""
    from cohabit.access.keyfile import read
    from cohabit.config.paths import keys_file

    with _one_line():
        keys = read(keys_file())
    rows = [("name", "admin", "models", "per minute", "at once", "made")]
    rows += [
        (
            key.name,
            "yes" if key.admin else "no",
            "all" if key.models is None else ",".join(key.models),
            str(key.requests_per_minute or "-"),
            str(key.concurrent or "-"),
            f"{datetime.fromtimestamp(key.created, UTC):%Y-%m-%d}",
        )
        for key in keys.values()
    ]
    typer.echo("\n".join(aligned(rows, right={3, 4})))


@app.command()
def revoke(name: _Name) -> None:
    """Let nobody in with this key any more. What was begun with it ends. Exits with 1 if there is no such key."""
    from cohabit.access.keyfile import editing
    from cohabit.config.paths import keys_file

    with _one_line(), editing(keys_file()) as keys:
        _found(keys, name)
        del keys[name]


def _limited(key: "Key", models: str | None, per_minute: int | None, concurrent: int | None) -> "Key":
    """With those limits that are given."""
    if models is not None:
        names = None if models == "all" else tuple(filter(None, map(str.strip, models.split(","))))
        if names == ():
            raise leave(Code.BAD_CONFIG, "--models: name some, with commas between, or `all`")
        if names and key.admin:
            raise leave(Code.BAD_CONFIG, "--models: an admin key may use all models; make one that is none")
        key = replace(key, models=names)
    if per_minute is not None:
        key = replace(key, requests_per_minute=per_minute or None)
    if concurrent is not None:
        key = replace(key, concurrent=concurrent or None)
    return key


def _found(keys: dict[str, "Key"], name: str) -> "Key":
    if name not in keys:
        raise leave(Code.FAILED, "there is no key of that name; `cohabit keys list` shows all")
    return keys[name]


@contextmanager
def _one_line() -> Iterator[None]:
    from cohabit.access.errors import KeysError

    try:
        yield
    except KeysError as error:
        raise leave(Code.FAILED, str(error)) from None
