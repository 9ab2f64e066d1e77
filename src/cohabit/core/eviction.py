"""Which model to evict first: GDSF, or LRU for comparison.

GreedyDual-Size-Frequency (Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching
Policy", HP Labs 1998): H = L + F * C / S, evict the least H, then L := H of the victim. F counts uses since it
came in, C is the measured seconds to bring the model back, S the bytes that its leaving frees, L as it was when the
model was last used: so what is not used any more ages.
"""

from enum import StrEnum

from cohabit.core.fit import sleep_resident
from cohabit.core.lifecycle import State
from cohabit.core.model_state import Model, Reclaim
from cohabit.core.state import SchedulerState

_WAKES = frozenset({State.SLEEPING, State.WAKING})


class Policy(StrEnum):
    """How victims are ordered."""

    GDSF = "gdsf"
    LRU = "lru"


def return_seconds(model: Model, chosen: Reclaim) -> float:
    """Measured seconds to have it back as it is now, once it has left in this way."""
    footprint = model.footprint
    if chosen is Reclaim.SLEEP:
        return footprint.wake_seconds.value
    if model.state is State.SLEEPING:  # it would have had to be woken anyway
        return spared_by_waking(model)
    return footprint.load_seconds.value


def spared_by_waking(model: Model) -> float:
    """Seconds that a load takes more than a wake."""
    return max(0.0, model.footprint.load_seconds.value - model.footprint.wake_seconds.value)


def start_seconds(model: Model) -> float:
    """Of its load or its wake, under way or to come."""
    footprint = model.footprint
    return (footprint.wake_seconds if model.state in _WAKES else footprint.load_seconds).value


def swap_cost(waiter: Model, victim: Model, chosen: Reclaim = Reclaim.STOP) -> float:
    """Seconds during which nothing serves: the victim's exit and the waiter's load or wake."""
    leave = victim.footprint.sleep_seconds if chosen is Reclaim.SLEEP else victim.footprint.exit_seconds
    return start_seconds(waiter) + leave.value


def preferred_reclaim(state: SchedulerState, model: Model) -> Reclaim:
    """Of a ready model: what has the smaller exit and return seconds; what was never measured is not chosen."""
    footprint = model.footprint
    if not state.can_sleep(model) or footprint.sleep_resident is None:
        return Reclaim.STOP
    asleep = footprint.sleep_seconds.value + footprint.wake_seconds.value
    stopped = footprint.exit_seconds.value + footprint.load_seconds.value
    return Reclaim.SLEEP if asleep < stopped else Reclaim.STOP


def score(state: SchedulerState, model: Model, policy: Policy, chosen: Reclaim = Reclaim.STOP) -> float:
    """The lower, the sooner it goes. Only models with a process have a score."""
    if policy is Policy.LRU:
        return model.usage.last_used
    account = state.account(model)
    freed = account.held - (sleep_resident(model) if chosen is Reclaim.SLEEP else 0)
    return model.usage.inflation + worth(model.usage.dispatches, return_seconds(model, chosen), freed)


def worth(uses: int, seconds: float, size: int) -> float:
    """F * C / S, with S in GiB; ``size`` in bytes."""
    return uses * seconds / max(size, 1) * (1 << 30)


def account_for(state: SchedulerState, model: Model, policy: Policy, chosen: Reclaim) -> str:
    """Note that this model is evicted; returns the why for log and page."""
    value = score(state, model, policy, chosen)
    if policy is Policy.LRU:
        return f"lru: last used at {value:.1f}"
    state.inflation = max(state.inflation, value)
    return (
        f"gdsf score {value:.2f}: used {model.usage.dispatches} times since it came in, "
        f"{return_seconds(model, chosen):.1f} s to bring back"
    )
