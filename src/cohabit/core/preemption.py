"""Who makes room for a waiter, how, and from when. Branch 3.3 of the decision tree, its ladder.

a. Idle workers give their caches back (trim), and a process that waits for room of its own goes.
b. Idle workers that have been idle for longer than bringing them back costs, put to sleep or stopped by which has
   the smaller exit and return seconds; and sleepers that nobody waits for, stopped for their residue. By GDSF, which
   weighs the little that a residue frees against the whole load that it spares.
c. Busy ones, drained, that have served ``patience`` times the cost of the switch, once the waiter itself has waited
   that cost (ski rental: rent until you have paid the price).
d. Anyone but the pinned, once the waiter has waited ``max_wait`` and they have served for as long as it took to bring
   them in: where that is longer than ``max_wait``, nothing but loading would be done otherwise.
For background work only a and b, of sleepers too only such as have slept for longer than what they spare; who does
nothing but background work is drained at once (branch 5).

As little as suffices: cheapest first, and what turns out superfluous is dropped. What was brought in for waiters and
has not been given anything yet is left to d, and that until it has had its own ``max_wait`` to be given something.
Never chosen: pinned, starting, waking, or at work on a part of the batch whose other part is all that the waiter
wants to come in for.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from cohabit.core.dispatch import LAST_SLOT, SLOT, blocked_by
from cohabit.core.eviction import Policy, preferred_reclaim, return_seconds, score, switch_cost
from cohabit.core.fit import Occupancy, shortfall
from cohabit.core.lifecycle import State
from cohabit.core.state import Model, Reclaim, SchedulerState

_CACHES, _IDLE, _BUSY = range(3)  # the ladder


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way of making room. ``rank`` is its place on the ladder."""

    model: Model
    exit: Reclaim
    rank: int
    score: float
    allowed_at: float


@dataclass(frozen=True, slots=True)
class Victims:
    """Who makes room and how; or None, and the times at which that may be otherwise."""

    reclaims: dict[int, Reclaim] | None
    later: list[float]


@dataclass(frozen=True, slots=True)
class Preemption:
    """For whom room is sought. ``since`` is when it began to wait."""

    state: SchedulerState
    waiter: Model
    since: float
    now: float

    @classmethod
    def of(cls, state: SchedulerState, waiter: Model, now: float) -> Self:
        """As things are."""
        return cls(state, waiter, min(waiter.waiting_since, now), now)

    @property
    def overdue_at(self) -> float:
        """When it has waited for as long as it may. Background work may for ever, until it is urgent."""
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
        cost = switch_cost(self.waiter, model, chosen)
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
        everything = {_worker(step): step.exit if step.rank == _CACHES else Reclaim.STOP for step in allowed}
        if not allowed or self._missing(everything):
            return Victims(None, later)
        return Victims(self._least(sorted(allowed, key=lambda step: (step.rank, step.score))), [])

    def _least(self, steps: list[Candidate]) -> dict[int, Reclaim]:
        """Of steps that suffice, in the order in which they are to be taken."""
        reclaims: dict[int, Reclaim] = {}
        for step in steps:
            if not self._missing(reclaims):
                break
            reclaims[_worker(step)] = step.exit
            if (
                step.exit is Reclaim.SLEEP
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
        if not model.running and account.cached and not account.trimmed:
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
            patience_over, overdue = self.served_by(model, model.loaded_at, model.load_duration, chosen)
            at = min(patience_over, overdue)
            if model.queue and not model.dispatches:
                at = max(overdue, model.loaded_at + model.policy.max_wait)
        if not model.running and not model.queue:
            idle_long_at = model.idle_since + return_seconds(model, chosen)
            at = min(at, idle_long_at)
            rank = _IDLE if idle_long_at <= self.now else _BUSY
        yield Candidate(model, chosen, rank, score(self.state, model, policy, chosen), at)


def _worker(step: Candidate) -> int:
    assert step.model.worker is not None
    return step.model.worker


def finishes_first(state: SchedulerState, waiter: Model, other: Model, now: float) -> bool:
    """Whether all that wait for a model which is not in came in one batch that the other still works on.

    The batch is only answered when both are done, so nobody gains by a switch before the other has finished its
    part. The other must be at work or about to be: if it could not run for lack of room, each would wait for the
    other.
    """
    batches = waiter.queue.batches
    if not waiter.out or len(batches) != 1 or None in batches:
        return False
    (batch,) = batches
    if batch not in other.queue.batches and not any(request.batch == batch for request in other.running.values()):
        return False
    return bool(other.running) or blocked_by(state, other, now) in {None, SLOT, LAST_SLOT}
