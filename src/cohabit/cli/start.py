"""Where the command ``cohabit`` begins: before anything else is imported, which takes a good part of a second.

What goes wrong outside of the program, from a Ctrl-C to a full disk, ends it with one line and never a traceback.
"""

import os
import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_DFL)  # until there is something to clean up, Ctrl-C just ends it


def main() -> None:
    """Run the command line. Raises SystemExit."""
    _open_standard_files()
    from cohabit.cli.main import app
    from cohabit.cli.output import Code, leave

    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        app()
    except OSError as error:
        raise SystemExit(leave(Code.FAILED, _message(error)).exit_code) from None


def _open_standard_files() -> None:
    """Those that were closed become the null device. Else the next file that is opened would get its number, and be
    written to by whatever prints."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    for name, number, mode in (("stdin", 0, "r"), ("stdout", 1, "w"), ("stderr", 2, "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _message(error: OSError) -> str:
    why = error.strerror or str(error)
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {why}"
    try:
        os.getcwd()
    except OSError:
        return "the working folder is gone; change to one that is there"
    return why
