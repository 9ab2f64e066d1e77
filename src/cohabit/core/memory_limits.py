"""The hard limit of workers: what each was given, and what all of them together may hold beyond that.

A worker that holds more than it was given is measured as long as the budget has room for it (*headroom*), so a wrong
guess is found out and not punished. Beyond that the shell ends it, since the budget holds. Both change with every
booking.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cohabit.core.state import SchedulerState

NOISE = 32 << 20  # bytes beyond what is reserved that do not count: shared pages come and go


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """Bytes, at one moment."""

    given: dict[int, int] = field(default_factory=dict)  # by worker
    headroom: int = 0  # of the budget, beyond all that was given

    def limit(self, worker: int) -> int:
        """The most that a worker may hold while no other holds more than it was given."""
        return self.given[worker] + self.headroom

    def exceeding(self, held: Mapping[int, int]) -> int | None:
        """The worker to end, of workers that hold so much; None while they hold no more than they may.

        It is the one that holds most beyond what it was given.
        """
        beyond = {worker: size - self.given[worker] for worker, size in held.items() if size > self.given[worker]}
        if sum(beyond.values()) <= self.headroom:
            return None
        return max(beyond, key=lambda worker: beyond[worker])


def memory_limits(state: SchedulerState) -> MemoryLimits:
    """As the ledger is now.

    What a busy worker was given is what was reserved when it began: a reading reserves all that it really holds, and
    if that counted, no worker would ever hold too much.
    """
    given = {}
    for worker, model in state.workers.items():
        running = model.run.busy_period if model.run.requests else None
        given[worker] = state.ledger.accounts[worker].held if running is None else running.given
    taken = sum(given.values()) + state.ledger.unreturned
    return MemoryLimits(given, max(0, state.ledger.effective_budget - taken))
