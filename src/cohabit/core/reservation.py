"""Nobody takes room so that one who has waited longer must wait longer still. Branch 3.4 of the decision tree.

The most urgent waiter is often not who can be let in first: those whose room it may take must serve on for a while,
and it may need several that have to be ripe at once. Meanwhile others may come in. But each that comes in has its own
time to serve, so beside small models that take turns a large one would never see all of them ripe. So the most urgent
has a reservation: the room that will be made for it, at a known time at the latest. Who is less urgent comes in first
only if that stays true: both fit then, or its own time will be over by then. (EASY backfilling: Lifka, "The ANL/IBM
SP Scheduling System", 1995.)
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from cohabit.core.eviction import preferred_reclaim, start_seconds, switch_cost
from cohabit.core.fit import bytes_left, peak_beside, run_extra, stays
from cohabit.core.lifecycle import COMING, State
from cohabit.core.preemption import Preemption, finishes_first
from cohabit.core.state import Model, Reclaim

_SLEEPERS = frozenset({State.SLEEPING, State.ENTERING_SLEEP})


@dataclass(frozen=True, slots=True)
class Reservation:
    """Of who sought room in vain: when it will have been made, and by whom (workers).

    ``rest`` and ``largest`` are the bytes that the others hold then, and the most that one run of them adds.
    """

    search: Preemption
    at: float
    gone: frozenset[int]
    rest: int
    largest: int

    @classmethod
    def of(cls, search: Preemption) -> Self | None:
        """As few leave as suffice, who may first first. None: it would not even take the room if it were there."""
        state, waiter = search.state, search.waiter
        if any(finishes_first(state, waiter, model, search.now) for model in state.workers.values()):
            return None
        rest = largest = 0
        evictable: list[tuple[float, int, int, int]] = []
        for worker, model in state.workers.items():
            if model is waiter:
                continue
            account = state.ledger.accounts[worker]
            extra = run_extra(account, model.footprint) if stays(state, model) else 0
            at = _evictable_at(search, model)
            if at < math.inf:
                evictable.append((at, worker, account.afterwards, extra))
            else:
                rest += account.afterwards
                largest = max(largest, extra)
        evictable.sort()
        budget = state.ledger.effective_budget
        while evictable:  # backwards from when all have gone: the first that may not stay says when
            _at, _worker, held, extra = evictable[-1]
            if peak_beside(state, waiter, rest + held, max(largest, extra)) > budget:
                break
            evictable.pop()
            rest, largest = rest + held, max(largest, extra)
        at = max(search.since + start_seconds(waiter), evictable[-1][0] if evictable else -math.inf)
        return cls(search, at, frozenset(worker for _at, worker, *_ in evictable), rest, largest)

    def allows_backfill(self, other: Model, reclaims: Mapping[int, Reclaim], now: float) -> bool:
        """Whether the other may come in now, in the room that these make."""
        if not other.out:
            return True  # it is in, and wants no more than to run
        state, waiter, footprint = self.search.state, self.search.waiter, other.footprint
        costs = (switch_cost(other, state.workers[worker], chosen) for worker, chosen in reclaims.items())
        comes_in = now + max(costs, default=start_seconds(other))
        if waiter.footprint.margin and comes_in > self.at:
            return False  # it ran out of memory before, so it loads alone
        served_by = min(self.search.served_by(other, comes_in, start_seconds(other), Reclaim.STOP))
        if served_by <= self.at and not other.policy.pin:
            return True
        own = footprint.idle.size
        if comes_in > self.at:
            own = max(own, footprint.load_need)
        freed = sum(
            state.ledger.accounts[worker].afterwards - bytes_left(state, worker, chosen)
            for worker, chosen in reclaims.items()
            if worker not in self.gone
        )
        if other.worker is not None and other.worker not in self.gone:
            freed += state.account(other).afterwards  # its process, or what it keeps asleep
        rest = self.rest + own - freed
        largest = max(self.largest, footprint.max_activation)
        return peak_beside(state, waiter, rest, largest) <= state.ledger.effective_budget


def _evictable_at(search: Preemption, model: Model) -> float:
    """When it may be told to leave at the latest, taken as given something since it came in: it soon will be."""
    worker_state = model.state
    if model.policy.pin or worker_state is State.STOPPING:
        return math.inf
    if worker_state is State.PREWARMED:
        return -math.inf
    if worker_state in _SLEEPERS:
        return search.overdue_at if model.queue else -math.inf
    if model.best_effort:
        return search.since
    loaded_at, load_duration = model.loaded_at, model.load_duration
    if worker_state in COMING:
        load_duration = start_seconds(model)
        loaded_at = model.lifecycle.since + load_duration
    return min(search.served_by(model, loaded_at, load_duration, preferred_reclaim(search.state, model)))
