"""How a worker makes room."""

from enum import StrEnum


class Exit(StrEnum):
    """How a worker makes room, cheapest first."""

    TRIM = "trim"  # gives its caches back and stays ready
    SLEEP = "sleep"  # lets go of its weights and keeps its process
    STOP = "stop"
