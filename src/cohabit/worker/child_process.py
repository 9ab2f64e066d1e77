"""What the processes that the server starts have in common: how they find their link, end, and report errors.

A child dies with its parent and takes its whole process group along. Two ways, since each has a hole: the kernel's
parent-death signal (prctl(2), PR_SET_PDEATHSIG) does not reach the child's own children and is lost if the parent
died before it was asked for; the end of the link is only seen by a thread that gets to run.
"""

import argparse
import ctypes
import os
import signal
import sys
import traceback

_PR_SET_PDEATHSIG = 1
_MARK = os.environ.pop("COHABIT_MARK", "")
"""Begins what is written here. What libraries write once the model is loaded may hold a prompt, and is dropped."""


def link_of_parent(module: str, description: str) -> int:
    """The socket to the parent, from the command line. From now on this process ends with its parent.

    Raises SystemExit if the parent is gone already.
    """
    parser = argparse.ArgumentParser(prog=module, description=f"{description} Started by cohabit serve.")
    parser.add_argument("--fd", type=int, required=True, help="the socket to the control plane")
    parser.add_argument("--parent", type=int, required=True, help="process id of the control plane")
    arguments = parser.parse_args()
    _die_with_parent(arguments.parent)
    return int(arguments.fd)


def _die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGKILL when the parent ends. Linux only; elsewhere the link's end has to do."""
    libc = ctypes.CDLL(None, use_errno=True)
    prctl = getattr(libc, "prctl", None)
    if prctl is not None and prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        raise SystemExit("the server that started this process is gone")


def take_group_along() -> None:
    """End this process and every child it started. Does not return."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def report(error: BaseException) -> None:
    """Write an error's type and frames to standard error; not its text, which may hold a prompt."""
    frames = traceback.extract_tb(error.__traceback__)
    where = " <- ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    print(f"{_MARK}{type(error).__name__} at {where}", file=sys.stderr, flush=True)  # noqa: T201 - stderr is the log
