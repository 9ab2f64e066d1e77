"""Branch 5 of the decision tree: background work, for which nobody waits at this moment (durable batches).

5.1  It gives way. It comes last in its model's queue; it takes slots and memory only while nothing interactive that
     is in waits for any; where an engine takes several at once it leaves one place; and who wants its slots or its
     room for something interactive gets them as soon as what runs has ended.
5.2  It makes room only where that costs nobody anything: it takes what is free, and what has been idle for longer
     than bringing it back costs.
5.3  Nor is it forgotten. What has been given nothing for so long that one run, or the switch that it takes, is no
     more than FLOOR of that time, counts as interactive for one run, or until it has served the cost of the switch.
     So does what has less than LAST of its time left before it expires.
"""

from cohabit.core.eviction import start_seconds
from cohabit.core.lifecycle import State
from cohabit.core.state import Model

FLOOR = 0.05  # of a device's time
LAST = 0.1  # of the time between arrival and deadline


def urgent_at(model: Model) -> float:
    """Branch 5.3: when background work that waits counts as interactive."""
    since = max(model.queue.background.oldest, model.background_since)
    if model.lifecycle.state is State.READY:
        at = max(since, model.loaded_at) + model.footprint.run_seconds.value / FLOOR
    else:
        at = max(since, model.unloaded_at) + start_seconds(model) / FLOOR
    if model.deadlines:
        deadline, _, request = model.deadlines[0]
        if request.background and request.queued:
            at = min(at, deadline - LAST * (deadline - request.arrived))
    return at


def given(model: Model, now: float) -> None:
    """Branch 5.3: it has been given background work. Is it urgent any longer?"""
    model.background_since = now
    if model.queue.interactive.count or now >= model.loaded_at + model.load_duration:
        model.queue.urgent = False
