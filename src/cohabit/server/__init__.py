"""A whole server from a config: what the command line runs, and what other programs may.

async with serve(config) as running:
    print(running.url)
    await running.stopped()
"""

from cohabit.server.listener import StartError
from cohabit.server.prepare import ModelNeverFits, Prepared, prepare
from cohabit.server.running import Running, run, serve

__all__ = ["ModelNeverFits", "Prepared", "Running", "StartError", "prepare", "run", "serve"]
