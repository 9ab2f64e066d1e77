"""How long a worker may take over what it was told."""

import asyncio
from typing import NamedTuple

from cohabit.runtime.workers.process import WorkerProcess

PROGRESS = 0.1  # seconds of processor time within a limit that count as progress; answering pings takes far less
LOOKS = 12  # at the processor time within a limit: a hang is noticed that much later at most


class Limit(NamedTuple):
    """For one phase. With ``progress`` the time begins anew as long as the processor is used."""

    doing: str
    seconds: float
    progress: bool = False


# Python and our package from a slow disk; a second or less from a fast one.
FIRST_WORD = Limit("say anything", 60.0)
# Torch and what hangs on it, from a slow disk.
PREPARE = Limit("import what its engine needs", 60.0, progress=True)
# Reading weights from a slow disk or compiling kernels takes minutes, but always some processor time.
LOAD = Limit("load", 60.0, progress=True)
WAKE = Limit("wake up", 60.0, progress=True)
# Falling asleep frees and copies nothing. vLLM, which does copy, takes 10 to 36 s for 8 to 14 billion weights.
SLEEP = Limit("fall asleep", 60.0)
# Milliseconds where it works; the model is given nothing meanwhile, and to start it anew takes seconds.
TRIM = Limit("give memory back", 30.0)


async def kept(limit: Limit, process: WorkerProcess, done: asyncio.Event) -> bool:
    """Wait until it is done: true. False once it took longer than allowed, from its begin or its last progress."""
    loop = asyncio.get_running_loop()
    counted_from, used = loop.time(), process.cpu_seconds() if limit.progress else 0.0
    while (left := counted_from + limit.seconds - loop.time()) > 0:
        try:
            async with asyncio.timeout(min(left, limit.seconds / LOOKS) if limit.progress else left):
                await done.wait()
        except TimeoutError:
            if limit.progress and (now_used := process.cpu_seconds()) - used >= PROGRESS:
                counted_from, used = loop.time(), now_used
        else:
            return True
    return False
