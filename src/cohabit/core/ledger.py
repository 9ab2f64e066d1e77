"""The books over two resources: memory in bytes, compute slots.

A worker's account holds ``load`` while it starts; after that ``resident``, and on top the larger of ``working``
(while anything runs) and ``cached`` (what its allocator was last seen to keep: a run reuses it). When a run ends
its working bytes stay booked as ``unconfirmed`` until a reading begun after the end shows what is kept. They are
not free, but nobody is evicted for them either: the next reading is a moment away.
An account closes when the process is reaped, never before.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Account:
    """What one worker holds, in bytes."""

    load: int = 0  # reserved while starting; 0 once ready
    resident: int = 0
    working: int = 0  # booked while anything runs
    cached: int = 0
    unconfirmed: int = 0  # working bytes of a run that has ended since the last reading
    leaving: bool = False  # told to stop; it holds until it is reaped
    run_ended: float = field(default=float("-inf"))

    @property
    def held(self) -> int:
        """Bytes booked now."""
        return max(self.load, self.resident + max(self.working, self.cached, self.unconfirmed))


class Ledger:
    """All accounts of one device. ``budget`` and ``keep_free`` are the owner's, in bytes."""

    def __init__(self, *, budget: int, keep_free: int, slots: int) -> None:
        """Before the first reading the device is taken to have what the owner said."""
        self.budget = budget
        self.keep_free = keep_free
        self.slots = slots
        self.slots_used = 0
        self.total: int | None = None
        self.foreign = 0
        self._quiet_foreign = 0  # as last seen while nothing was loading or leaving
        self.accounts: dict[int, Account] = {}

    @property
    def reserved(self) -> int:
        """Bytes booked for all workers."""
        return sum(account.held for account in self.accounts.values())

    @property
    def effective_budget(self) -> int:
        """What all workers together may hold now."""
        if self.total is None:
            return self.budget
        return max(0, min(self.budget, self.total - self.foreign - self.keep_free))

    def open(self, worker: int, load: int) -> None:
        """Reserve a load before it starts."""
        self.accounts[worker] = Account(load=load)

    def settle(self, worker: int, resident: int) -> None:
        """The load has ended: hold what it left."""
        account = self.accounts[worker]
        account.load = 0
        account.resident = resident

    def run(self, worker: int, working: int) -> None:
        """Something begins to run on an idle worker."""
        self.accounts[worker].working = working

    def rest(self, worker: int, now: float) -> None:
        """Nothing runs any more; what it used stays booked until measured."""
        account = self.accounts[worker]
        account.unconfirmed = account.working
        account.working = 0
        account.run_ended = now

    def close(self, worker: int) -> None:
        """The process is reaped and its memory is back."""
        del self.accounts[worker]

    def observe(self, at: float, total: int, available: int, workers: dict[int, int]) -> None:
        """Take a reading of the device in.

        While a load or a release is under way its bytes show neither wholly as ours nor as gone, so foreign is
        then the last quiet reading, or what is used beyond everything booked, whichever is more. So it is where
        a worker is missing from the reading (under WSL the driver has no figures by process); what its last run
        used then counts as kept, since nobody will ever see it free.
        """
        for worker, account in self.accounts.items():
            if account.load or at <= account.run_ended:
                continue
            kept = account.resident + max(account.cached, account.unconfirmed)
            account.cached = max(0, workers.get(worker, kept) - account.resident)
            account.unconfirmed = 0
        self.total = total
        quiet = not any(account.load or account.leaving for account in self.accounts.values())
        if quiet and workers.keys() >= self.accounts.keys():
            self.foreign = self._quiet_foreign = max(0, total - available - sum(workers.values()))
        else:
            self.foreign = max(self._quiet_foreign, total - available - self.reserved)
