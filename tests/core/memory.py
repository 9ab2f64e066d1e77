"""What worker processes really hold, for tests in which the ledger must be true."""

from dataclasses import dataclass, field

from core.driver import MIB

LARGEST = 24  # units of the largest run


@dataclass
class Real:
    """One worker's process, in bytes."""

    load: int
    idle: int
    activation: int  # of the largest run
    sleep_resident: int
    keeps: float  # share of a run's memory that its allocator keeps
    host_copy: int = 0  # in host memory
    prewarmed: int = 0  # of its bare process
    phase: str = "loading"  # or "prewarmed", "ready", "sleeping"
    kept: int = 0
    run: int = 0
    more: int = 0  # what goes on takes that much more than it was given

    def begin(self, units: int) -> None:
        """A run of so many units; of an unknown size it may be the largest."""
        self.run = self.activation if units <= 0 else self.activation * units // LARGEST

    def end(self) -> None:
        """It has ended, and the allocator keeps a part."""
        self.kept = max(self.kept, int((self.run + self.more) * self.keeps))
        self.run = self.more = 0

    @property
    def peak(self) -> int:
        """Of the process, in the run that goes on."""
        return self.idle + max(self.kept, self.run + self.more)

    @property
    def holds(self) -> int:
        """Now; at worst, while it loads."""
        if self.phase == "loading":
            return max(self.load, self.idle) + self.more
        return {"sleeping": self.sleep_resident, "prewarmed": self.prewarmed}.get(self.phase, self.peak)


@dataclass
class Memory:
    """A device with workers, most of them honest, and a stranger."""

    total: int = 4096 * MIB
    foreign: int = 0
    workers: dict[int, Real] = field(default_factory=dict)
    lingering: list[int] = field(default_factory=list)  # of dead processes, not yet back

    @property
    def ours(self) -> int:
        """What our workers hold at worst."""
        return sum(real.holds for real in self.workers.values()) + sum(self.lingering)

    def reading(self, loaded: float = 1.0) -> tuple[int, int, dict[int, int]]:
        """Total, available, and what each worker holds; of a load, the share that has happened."""
        holds = {w: int(r.holds * (loaded if r.phase == "loading" else 1)) for w, r in self.workers.items()}
        used = sum(holds.values()) + sum(self.lingering) + self.foreign
        return self.total, max(0, self.total - used), holds
