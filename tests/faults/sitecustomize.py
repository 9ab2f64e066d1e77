"""Bugs for a server that a test starts with this folder on its path: what ``FAULT`` names raises once it is asked to.

They are put in from outside, since a server must have no switch for them.
"""

import os
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PLACES = {
    "core": ("cohabit.core.controller", "Controller", "handle"),
    "execute": ("cohabit.runtime.effects", "Effects", "execute"),
    "observer": ("cohabit.observability.metrics", "Metrics", "handled"),
    "device": ("cohabit.devices.cpu", "Cpu", "read"),
    "watchdog": ("cohabit.runtime.workers.watchdog", "Watchdog", "look"),
    "worker": ("cohabit.runtime.workers.process", "WorkerProcess", "exited"),
    "limit": ("cohabit.runtime.workers.process", "WorkerProcess", "cpu_seconds"),
}


def install(place: str, switch: Path) -> None:
    """Let it raise as long as the file ``switch`` is there."""
    module, name, method = PLACES[place]
    owner = getattr(import_module(module), name)
    good: Callable[..., Any] = getattr(owner, method)

    @wraps(good)
    def faulty(*arguments: Any, **named: Any) -> Any:
        if switch.exists():
            raise AssertionError("a bug that a test put here")
        return good(*arguments, **named)

    setattr(owner, method, faulty)


if "FAULT" in os.environ:
    install(os.environ["FAULT"], Path(os.environ["FAULT_SWITCH"]))
