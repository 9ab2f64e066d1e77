"""Which workers make room for a waiter, how, and from when. Branches 3.3 and 3.4 of the decision tree.

3.3, a ladder:

a. Idle workers give their caches back (trim), and a process that waits for room of its own is stopped.
b. Workers that have been idle for longer than bringing them back costs are put to sleep or stopped, whichever has the
   smaller exit and return seconds; sleepers without a queue are stopped for the memory that they still hold. By GDSF,
   which weighs the little that a sleeper frees against the whole load that it spares.
c. Busy workers are drained once they have served ``patience`` times the cost of the swap, and the waiter itself has
   waited that cost (ski rental: rent until you have paid the price).
d. Any worker but a pinned one, once the waiter has waited ``max_wait`` and the worker has served for as long as its
   load took: where a load is longer than ``max_wait``, nothing but loading would be done otherwise.

For background work only a and b apply, and of sleepers only those that have slept for longer than what they spare. A
model that does nothing but background work is drained at once (branch 5).

As little as suffices: cheapest first, and what turns out superfluous is dropped. A model that was loaded for waiters
and has not been given anything yet is left to d, until it has had its own ``max_wait`` to be given something. Never
chosen: pinned, starting or waking models, and a model at work on a part of the batch whose other part is all that the
waiter is wanted for.

3.4, reservations. The most urgent waiter is often not the first that can be loaded: the workers whose room it may
take must serve on for a while, and it may need several that are evictable at the same time. Meanwhile others may be
loaded. But each of them has its own time to serve, so beside small models that take turns a large one would never see
all of them evictable. So the most urgent waiter has a reservation: the room that will be made for it, at a known time
at the latest. Another model may load first only if that does not delay the reservation: either both will fit at that
time, or the other one will already be evictable. (EASY backfilling: Lifka, "The ANL/IBM SP Scheduling System", 1995.)
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Self

from cohabit.core.dispatch import Blocked, blocked_by
from cohabit.core.eviction import Policy, preferred_reclaim, return_seconds, score, start_seconds, swap_cost
from cohabit.core.fit import Occupancy, bytes_left, run_extra, shortfall, stays
from cohabit.core.lifecycle import COMING, State
from cohabit.core.model_state import Model, Reclaim
from cohabit.core.state import SchedulerState

_CACHES, _IDLE, _BUSY = range(3)  # the ladder
_SLEEPERS = frozenset({State.SLEEPING, State.ENTERING_SLEEP})


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way of making room. ``rank`` is its place on the ladder."""

    model: Model
    reclaim: Reclaim
    rank: int
    score: float
    allowed_at: float


@dataclass(frozen=True, slots=True)
class Victims:
    """Which workers make room and how; or None, and the times at which that may change."""

    reclaims: dict[int, Reclaim] | None
    later: list[float]


@dataclass(frozen=True, slots=True)
class Preemption:
    """The search for room for one waiter. ``since`` is when it began to wait."""

    state: SchedulerState
    waiter: Model
    since: float
    now: float

    @classmethod
    def of(cls, state: SchedulerState, waiter: Model, now: float) -> Self:
        return cls(state, waiter, min(waiter.waiting_since, now), now)

    @property
    def overdue_at(self) -> float:
        """Deadline after which ``max_wait`` is exceeded; ``inf`` for background work."""
        return math.inf if self.waiter.best_effort else self.since + self.waiter.policy.max_wait

    @property
    def overdue(self) -> bool:
        """Whether it has."""
        return self.has_waiters and self.now >= self.overdue_at

    @property
    def has_waiters(self) -> bool:
        """Whether anybody waits for it."""
        return self.waiter.waiting_since < math.inf

    def served_by(self, model: Model, loaded_at: float, entry: float, chosen: Reclaim) -> tuple[float, float]:
        """When one that came in then, and took so long to, will have served for long enough by c, and by d."""
        cost = swap_cost(self.waiter, model, chosen)
        patience_over = max(self.since + cost, loaded_at + model.policy.patience * cost)
        return patience_over, max(self.overdue_at, loaded_at + entry)

    def choose(self, policy: Policy, occupancy: Occupancy) -> Victims:
        """The least that suffices of what is allowed now."""
        if occupancy.shortfall(self.state, self.waiter) <= 0:
            return Victims({}, [])
        if not self.has_waiters:
            return Victims(None, [])  # a preload takes free room only
        steps = list(self._steps(policy))
        allowed = [step for step in steps if step.allowed_at <= self.now]
        later = [step.allowed_at for step in steps if step.allowed_at > self.now]
        # Stops come after trims of the same workers, so this is the most that can be had.
        everything = {_worker(step): step.reclaim if step.rank == _CACHES else Reclaim.STOP for step in allowed}
        if not allowed or self._missing(everything):
            return Victims(None, later)
        return Victims(self._least(sorted(allowed, key=lambda step: (step.rank, step.score))), [])

    def _least(self, steps: list[Candidate]) -> dict[int, Reclaim]:
        """Of steps that suffice, in the order in which they are to be taken."""
        reclaims: dict[int, Reclaim] = {}
        for step in steps:
            if not self._missing(reclaims):
                break
            reclaims[_worker(step)] = step.reclaim
            if (
                step.reclaim is Reclaim.SLEEP
                and self._missing(reclaims)
                and not self._missing({**reclaims, _worker(step): Reclaim.STOP})
            ):
                reclaims[_worker(step)] = Reclaim.STOP  # asleep it would hold too much
        for worker, chosen in list(reclaims.items()):
            if chosen is Reclaim.SLEEP and self._missing(reclaims):
                reclaims[worker] = Reclaim.STOP
        for worker in list(reclaims):
            chosen = reclaims.pop(worker)
            if self._missing(reclaims):
                reclaims[worker] = chosen
        return reclaims

    def _missing(self, reclaims: dict[int, Reclaim]) -> bool:
        return shortfall(self.state, self.waiter, reclaims) > 0

    def _steps(self, policy: Policy) -> Iterator[Candidate]:
        for model in self.state.workers.values():
            if model is self.waiter or model.policy.pin or model.draining:
                continue
            worker_state = model.lifecycle.state
            if worker_state is State.READY:
                yield from self._of_ready(model, policy)
            elif worker_state is State.PREWARMED:
                yield Candidate(model, Reclaim.STOP, _CACHES, -self.state.account(model).held, self.now)
            elif worker_state is State.SLEEPING:
                at = self.overdue_at if model.queue else self.now
                if self.waiter.best_effort:
                    at = max(at, model.lifecycle.since + return_seconds(model, Reclaim.STOP))
                yield Candidate(model, Reclaim.STOP, _IDLE, score(self.state, model, policy), at)

    def _of_ready(self, model: Model, policy: Policy) -> Iterator[Candidate]:
        account = self.state.account(model)
        if account.trimming:
            return  # a moment, then it is known what it holds
        if not model.run.requests and account.cached and not account.trimmed:
            yield Candidate(model, Reclaim.TRIM, _CACHES, -account.cached, self.now)
        if finishes_first(self.state, self.waiter, model, self.now):
            return
        chosen = preferred_reclaim(self.state, model)
        rank = _BUSY
        if self.waiter.best_effort:
            at = math.inf  # branch 5.2
        elif model.best_effort:
            at = self.since  # branch 5.1
        else:
            patience_over, overdue = self.served_by(model, model.usage.loaded_at, model.usage.load_duration, chosen)
            at = min(patience_over, overdue)
            if model.queue and not model.usage.dispatches:
                at = max(overdue, model.usage.loaded_at + model.policy.max_wait)
        if not model.run.requests and not model.queue:
            idle_long_at = model.usage.idle_since + return_seconds(model, chosen)
            at = min(at, idle_long_at)
            rank = _IDLE if idle_long_at <= self.now else _BUSY
        yield Candidate(model, chosen, rank, score(self.state, model, policy, chosen), at)


def _worker(step: Candidate) -> int:
    assert step.model.worker is not None
    return step.model.worker


def finishes_first(state: SchedulerState, waiter: Model, other: Model, now: float) -> bool:
    """Whether all that wait for a model which is not in came in one batch that the other still works on.

    The batch is only answered when both are done, so nobody gains by a swap before the other has finished its
    part. The other must be at work or about to be: if it could not run for lack of room, each would wait for the
    other.
    """
    batches = waiter.queue.batches
    if not waiter.unloaded or len(batches) != 1 or None in batches:
        return False
    (batch,) = batches
    if batch not in other.queue.batches and not any(
        request.batch == batch for request in other.run.requests.values()
    ):
        return False
    return bool(other.run.requests) or blocked_by(state, other, now) in {None, Blocked.SLOT, Blocked.LAST_SLOT}


@dataclass(frozen=True, slots=True)
class Reservation:
    """The room that will be made for the most urgent waiter, at ``shadow_time`` at the latest.

    ``gone`` are the workers that will have left for it, ``occupancy`` is that of the others then.
    """

    search: Preemption
    shadow_time: float
    gone: frozenset[int]
    occupancy: Occupancy

    @classmethod
    def of(cls, search: Preemption) -> Self | None:
        """Evict as few as needed, earliest evictable first. None if the waiter would not load even if the memory were
        free."""
        state, waiter = search.state, search.waiter
        if any(finishes_first(state, waiter, model, search.now) for model in state.workers.values()):
            return None
        occupancy = Occupancy()
        evictable: list[tuple[float, int, int, int]] = []
        for worker, model in state.workers.items():
            if model is waiter:
                continue
            account = state.ledger.accounts[worker]
            extra = run_extra(account, model.footprint) if stays(account, model) else 0
            at = _evictable_at(search, model)
            if at < math.inf:
                evictable.append((at, worker, account.afterwards, extra))
            else:
                occupancy = occupancy.plus(account.afterwards, extra)
        evictable.sort()
        budget = state.ledger.effective_budget
        while evictable:  # backwards from when all have gone: the first that may not stay says when
            _at, _worker, held, extra = evictable[-1]
            more = occupancy.plus(held, extra)
            if more.peak_with(state, waiter) > budget:
                break
            evictable.pop()
            occupancy = more
        at = max(search.since + start_seconds(waiter), evictable[-1][0] if evictable else -math.inf)
        return cls(search, at, frozenset(worker for _at, worker, *_ in evictable), occupancy)

    def allows_backfill(self, other: Model, reclaims: Mapping[int, Reclaim], now: float) -> bool:
        """Whether another model may be loaded now, in the room that these make, without delaying the reservation."""
        if not other.unloaded:
            return True  # it is in, and wants no more than to run
        state, waiter, footprint = self.search.state, self.search.waiter, other.footprint
        costs = (swap_cost(other, state.workers[worker], chosen) for worker, chosen in reclaims.items())
        loaded_at = now + max(costs, default=start_seconds(other))
        if waiter.footprint.margin and loaded_at > self.shadow_time:
            return False  # it ran out of memory before, so it loads alone
        served_by = min(self.search.served_by(other, loaded_at, start_seconds(other), Reclaim.STOP))
        if served_by <= self.shadow_time and not other.policy.pin:
            return True
        own = footprint.idle.size
        if loaded_at > self.shadow_time:
            own = max(own, footprint.load_need)
        freed = sum(
            state.ledger.accounts[worker].afterwards - bytes_left(state, worker, chosen)
            for worker, chosen in reclaims.items()
            if worker not in self.gone
        )
        if other.worker is not None and other.worker not in self.gone:
            freed += state.account(other).afterwards  # its process, or what it keeps while it sleeps
        occupancy = self.occupancy.plus(own - freed, footprint.max_activation)
        return occupancy.peak_with(state, waiter) <= state.ledger.effective_budget


def _evictable_at(search: Preemption, model: Model) -> float:
    """When it may be evicted at the latest, as if it had been given work since it was loaded: it soon will be."""
    worker_state = model.state
    if model.policy.pin or worker_state is State.STOPPING:
        return math.inf
    if worker_state is State.PREWARMED:
        return -math.inf
    if worker_state in _SLEEPERS:
        return search.overdue_at if model.queue else -math.inf
    if model.best_effort:
        return search.since
    loaded_at, load_duration = model.usage.loaded_at, model.usage.load_duration
    if worker_state in COMING:
        load_duration = start_seconds(model)
        loaded_at = model.lifecycle.since + load_duration
    return min(search.served_by(model, loaded_at, load_duration, preferred_reclaim(search.state, model)))
