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

from cohabit.core.eviction import entry_seconds, preferred_exit, switch_cost
from cohabit.core.exits import Exit
from cohabit.core.lifecycle import COMING, State
from cohabit.core.room import left_by, running_extra, stays, taken_beside
from cohabit.core.state import Model
from cohabit.core.victims import Search, finishes_first

_SLEEPERS = frozenset({State.ASLEEP, State.FALLING_ASLEEP})


@dataclass(frozen=True, slots=True)
class Reservation:
    """Of who sought room in vain: when it will have been made, and by whom (workers).

    ``rest`` and ``largest`` are the bytes that the others hold then, and the most that one run of them adds.
    """

    search: Search
    at: float
    gone: frozenset[int]
    rest: int
    largest: int

    @classmethod
    def of(cls, search: Search) -> Self | None:
        """As few leave as suffice, who may first first. None: it would not even take the room if it were there."""
        books, waiter = search.books, search.waiter
        if any(finishes_first(books, waiter, model, search.now) for model in books.workers.values()):
            return None
        rest = largest = 0
        ripe: list[tuple[float, int, int, int]] = []
        for worker, model in books.workers.items():
            if model is waiter:
                continue
            account = books.ledger.accounts[worker]
            extra = running_extra(account, model.footprint) if stays(books, model) else 0
            at = _ripe_at(search, model)
            if at < math.inf:
                ripe.append((at, worker, account.afterwards, extra))
            else:
                rest += account.afterwards
                largest = max(largest, extra)
        ripe.sort()
        budget = books.ledger.effective_budget
        while ripe:  # backwards from when all have gone: the first that may not stay says when
            _at, _worker, held, extra = ripe[-1]
            if taken_beside(books, waiter, rest + held, max(largest, extra)) > budget:
                break
            ripe.pop()
            rest, largest = rest + held, max(largest, extra)
        at = max(search.since + entry_seconds(waiter), ripe[-1][0] if ripe else -math.inf)
        return cls(search, at, frozenset(worker for _at, worker, *_ in ripe), rest, largest)

    def is_kept(self, other: Model, exits: Mapping[int, Exit], now: float) -> bool:
        """Whether the other may come in now, in the room that these make."""
        if not other.out:
            return True  # it is in, and wants no more than to run
        books, waiter, footprint = self.search.books, self.search.waiter, other.footprint
        costs = (switch_cost(other, books.workers[worker], chosen) for worker, chosen in exits.items())
        comes_in = now + max(costs, default=entry_seconds(other))
        if waiter.footprint.margin and comes_in > self.at:
            return False  # it ran out of memory before, so it loads alone
        served_by = min(self.search.served_by(other, comes_in, entry_seconds(other), Exit.STOP))
        if served_by <= self.at and not other.policy.pin:
            return True
        own = footprint.resident.size
        if comes_in > self.at:
            own = max(own, footprint.load_need)
        freed = sum(
            books.ledger.accounts[worker].afterwards - left_by(books, worker, chosen)
            for worker, chosen in exits.items()
            if worker not in self.gone
        )
        if other.worker is not None and other.worker not in self.gone:
            freed += books.account(other).afterwards  # its process, or what it keeps asleep
        rest = self.rest + own - freed
        largest = max(self.largest, footprint.most_working)
        return taken_beside(books, waiter, rest, largest) <= books.ledger.effective_budget


def _ripe_at(search: Search, model: Model) -> float:
    """When it may be told to leave at the latest, taken as given something since it came in: it soon will be."""
    state = model.state
    if model.policy.pin or state is State.STOPPING:
        return math.inf
    if state is State.SPAWNED:
        return -math.inf
    if state in _SLEEPERS:
        return search.overdue_at if model.queue else -math.inf
    if model.yields:
        return search.since
    came_in, entry = model.came_in, model.entry
    if state in COMING:
        entry = entry_seconds(model)
        came_in = model.lifecycle.since + entry
    return min(search.served_by(model, came_in, entry, preferred_exit(search.books, model)))
