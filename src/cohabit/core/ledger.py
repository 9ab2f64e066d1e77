"""What is reserved of two resources: memory in bytes, compute slots.

A worker's account holds ``load`` while it starts or wakes, and before that what its bare process takes. After that
it holds ``idle``, and on top the larger of ``activation`` (while anything runs) and ``cached`` (what its allocator
was last seen to keep: a run reuses it). When a run ends, a model falls asleep or caches are trimmed, the bytes stay
reserved as ``unconfirmed`` until a reading begun after that shows what is kept. They are not free, but no model
is evicted for them either: the next reading is a moment away. Of a sleeping model ``idle`` is what stays while it
sleeps, and what it keeps beyond that shows as ``cached``.

Copies in host memory (``copies``) are reserved apart, by worker, from the load to the end of the process.

An account closes when the process is reaped. Where a device may show the memory later than that (a card), it is
``unreturned`` until a reading shows it free.
"""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Account:
    """What one worker holds, in bytes."""

    load: int = 0  # reserved while starting or waking; 0 once ready
    idle: int = 0
    activation: int = 0  # reserved while anything runs
    cached: int = 0
    unconfirmed: int = 0  # freed since the last reading, as far as the worker says
    leaving: bool = False  # told to stop or to sleep; it holds all until that has ended
    remains: int = 0  # of what is leaving, what is expected to stay
    trimming: bool = False
    trimmed: bool = False  # nothing has run since its caches were trimmed
    settled_at: float = field(default=float("-inf"))  # a reading begun before this says nothing of it
    # kept by the ledger, since they are read far more often than they change
    held: int = 0  # bytes reserved now
    at_rest: int = 0  # bytes held while nothing runs, once the next reading has come
    afterwards: int = 0  # bytes held at rest, once what is under way has ended


class Ledger:
    """All accounts of one device. ``budget``, ``keep_free`` and ``host_cache`` are the config's, in bytes."""

    def __init__(
        self, *, budget: int, keep_free: int, slots: int, releases_when_reaped: bool = True, host_cache: int = 0
    ) -> None:
        """Before the first reading the budget of the config counts."""
        self.budget = budget
        self.keep_free = keep_free
        self.slots = slots
        self.slots_used = 0
        self.total: int | None = None
        self.foreign = 0
        self.effective_budget = budget  # what all workers together may hold now
        self.unreturned = 0
        self.unreturned_since: float | None = None
        self.accounts: dict[int, Account] = {}
        self.host_cache = host_cache  # what copies may take of the host's memory
        self.copies: dict[int, int] = {}  # bytes by worker
        self.copied = 0  # bytes of all of them
        self._releases_when_reaped = releases_when_reaped
        self._quiet_foreign = 0  # as last seen while nothing was loading or leaving
        self._held = 0

    @property
    def reserved(self) -> int:
        """Bytes reserved for all workers, those of dead ones included that the device does not show free yet."""
        return self._held + self.unreturned

    def _book(self, account: Account) -> None:
        held = max(account.load, account.idle + max(account.activation, account.cached, account.unconfirmed))
        self._held += held - account.held
        account.held = held
        account.at_rest = max(account.load, account.idle + account.cached)
        account.afterwards = account.remains if account.leaving else account.at_rest

    def prewarm(self, worker: int, size: int) -> None:
        """A process is started that is to load a model later; so much it takes before that."""
        account = self.accounts[worker] = Account(idle=size)
        self._book(account)

    def load(self, worker: int, size: int) -> None:
        """Reserve a load or a wake before it starts."""
        account = self.accounts.setdefault(worker, Account())
        account.load = size
        self._book(account)

    def settle(self, worker: int, idle: int) -> None:
        """The load or the wake has ended: hold what it left."""
        account = self.accounts[worker]
        account.load = account.cached = account.unconfirmed = 0
        account.idle = idle
        self._book(account)

    def host_copy(self, worker: int, size: int) -> None:
        """A copy of it is made in host memory, or has turned out to be so large; 0: there is none."""
        self.copied += size - self.copies.pop(worker, 0)
        if size:
            self.copies[worker] = size

    def run(self, worker: int, activation: int) -> None:
        """Something begins to run on an idle worker."""
        account = self.accounts[worker]
        account.activation = activation
        account.trimmed = False
        self._book(account)

    def rest(self, worker: int, now: float) -> None:
        """Nothing runs any more; what it used stays reserved until measured."""
        account = self.accounts[worker]
        account.unconfirmed = max(account.unconfirmed, account.activation)
        account.activation = 0
        account.settled_at = now
        self._book(account)

    def leave(self, worker: int, remains: int = 0) -> None:
        """It is told to stop, or to sleep, of which ``remains`` bytes are expected to stay."""
        account = self.accounts[worker]
        account.leaving = True
        account.remains = remains
        self._book(account)

    def sleep(self, worker: int, sleep_resident: int, now: float) -> None:
        """It says that it has fallen asleep; the rest stays reserved until a reading shows it free."""
        account = self.accounts[worker]
        account.leaving = False
        account.unconfirmed = max(0, account.held - sleep_resident)
        account.idle, account.cached = sleep_resident, 0
        account.settled_at = now
        self._book(account)

    def trim(self, worker: int) -> None:
        """An idle worker is told to give its caches back."""
        self.accounts[worker].trimming = True

    def trimmed(self, worker: int, now: float) -> None:
        """It has done so; the next reading shows how much."""
        account = self.accounts[worker]
        account.trimming, account.trimmed = False, True
        account.unconfirmed = max(account.unconfirmed, account.cached)
        account.cached = 0
        account.settled_at = now
        self._book(account)

    def close(self, worker: int, now: float, exceeded: int = 0) -> None:
        """The process is reaped. Its memory is back on cpu; on a card when the device shows it.

        ``exceeded`` is what it held if it was ended for holding more than it may.
        """
        account = self.accounts.pop(worker)
        self.copied -= self.copies.pop(worker, 0)
        self._held -= account.held
        if not self._releases_when_reaped:
            self.unreturned += max(account.held, exceeded)
            self.unreturned_since = now

    def observe(self, at: float, total: int, available: int, workers: dict[int, int]) -> bool:
        """Take a reading of the device in; returns whether it changed any account or what is allowed.

        While a load or a release is under way its bytes show neither wholly as ours nor as gone, so foreign is
        then the last quiet reading, or what is used beyond everything reserved, whichever is more. So it is where
        a worker is missing from the reading (under WSL the driver has no figures by process); what its last run
        used then counts as kept, since nobody will ever see it free.
        """
        before = self.unreturned, self.effective_budget
        changed = False
        for worker, account in self.accounts.items():
            if account.load or account.trimming or at <= account.settled_at:
                continue
            kept = max(account.cached, account.unconfirmed)
            seen = max(0, workers.get(worker, account.idle + kept) - account.idle)
            if account.activation and seen <= account.activation:
                continue  # it is the run's, and what that will leave is not known yet
            if (seen, 0) != (account.cached, account.unconfirmed):
                account.cached, account.unconfirmed = seen, 0
                self._book(account)
                changed = True
        self.total = total
        used = total - available
        exited_since = self.unreturned_since is not None and at <= self.unreturned_since
        if self.unreturned and not exited_since:
            ours = sum(workers.get(worker, account.held) for worker, account in self.accounts.items())
            self.unreturned = min(self.unreturned, max(0, used - self._quiet_foreign - ours))
            self.unreturned_since = self.unreturned_since if self.unreturned else None
        # A worker that exits during a reading has given back nobody knows how much of what is still reserved for it.
        quiet = not exited_since and not any(account.load or account.leaving for account in self.accounts.values())
        if quiet and all(worker in workers or not account.held for worker, account in self.accounts.items()):
            self.foreign = self._quiet_foreign = max(0, used - sum(workers.values()) - self.unreturned)
        else:
            self.foreign = max(self._quiet_foreign, used - self.reserved)
        self.effective_budget = max(0, min(self.budget, total - self.foreign - self.keep_free))
        return changed or before != (self.unreturned, self.effective_budget)
