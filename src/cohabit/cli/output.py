"""What commands print: lines, tables, and how they end, with one line on standard error and a code."""

import os
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum

import typer

from cohabit.access.keys import BrokenKeys
from cohabit.config import ConfigError
from cohabit.devices import DeviceError
from cohabit.server.listener import StartError
from cohabit.server.prepare import ModelNeverFits
from cohabit.sources import SourceError


class Code(IntEnum):
    """Exit codes."""

    DONE = 0
    FAILED = 1
    BAD_CONFIG = 2
    NEVER_FITS = 3
    INTERRUPTED = 130  # ended at once by a second signal, with requests unanswered


def leave(code: Code, message: str) -> typer.Exit:
    """Say why on standard error; raise what this returns."""
    typer.echo(message, err=True)
    return typer.Exit(code)


def announce(text: str) -> None:
    """On standard output, for whoever looks: a server runs also if nobody can."""
    try:
        typer.echo(text)
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for the rest of the process; the other fails again


def warn(line: str) -> None:
    """On standard error."""
    typer.echo(line, err=True)


@contextmanager
def one_line() -> Iterator[None]:
    """Errors a user can mend become one line and their code."""
    try:
        yield
    except ConfigError as error:
        raise leave(Code.BAD_CONFIG, str(error)) from None
    except ModelNeverFits as error:
        raise leave(Code.NEVER_FITS, str(error)) from None
    except (SourceError, DeviceError, BrokenKeys, StartError) as error:
        raise leave(Code.FAILED, str(error)) from None


def aligned(rows: Sequence[Sequence[str]], *, right: Collection[int]) -> list[str]:
    """Lines whose columns begin below each other; those numbered in ``right`` end below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
