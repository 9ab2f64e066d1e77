"""A worker dies with its parent and takes its whole process group along.

Two ways, since each has a hole: the kernel's parent-death signal (prctl(2), PR_SET_PDEATHSIG) does not reach the
worker's own children and is lost if the parent died before it was asked for; the end of the link is only seen
by a thread that gets to run.
"""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask the kernel for SIGKILL when the parent ends. Linux only; elsewhere the link's end has to do.

    Raises SystemExit if the parent is gone already.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    prctl = getattr(libc, "prctl", None)
    if prctl is not None and prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        raise SystemExit("the server that started this worker is gone")


def take_group_along() -> None:
    """End this process and every child it started. Does not return."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)
