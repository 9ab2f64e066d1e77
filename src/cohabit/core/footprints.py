"""What a model needs, in order of trust: measured here, declared by its owner, estimated from its files.

``resident`` and ``load`` are replaced by what a load shows. ``working`` is only ever raised: one small run says
nothing of the largest one, so its first figure stands until a run shows more.
"""

from dataclasses import dataclass
from enum import StrEnum

from cohabit.core.averages import Average


class Origin(StrEnum):
    """Where a figure comes from."""

    MEASURED = "measured"
    DECLARED = "declared"
    ESTIMATED = "estimated"


@dataclass(frozen=True, slots=True)
class Figure:
    """Bytes, and who says so."""

    size: int
    origin: Origin


class Footprint:
    """Bytes and seconds of one model."""

    def __init__(
        self,
        *,
        resident: Figure,
        load: Figure,
        working: Figure,
        residue: Figure | None = None,
        load_seconds: float = 2.0,
        exit_seconds: float = 0.2,
        sleep_seconds: float | None = None,
        wake_seconds: float | None = None,
    ) -> None:
        """Seconds are guesses until measured; they decide only when to switch, never what fits.

        ``residue`` is what stays of a sleeping model. Without it, and without both seconds of a sleep, nothing
        is known of sleeping, and stopping is preferred.
        """
        self.resident = resident
        self.load = load
        self.working = working
        self.residue = residue
        self.load_seconds = Average(load_seconds)
        self.exit_seconds = Average(exit_seconds)
        self.sleep_seconds = Average(exit_seconds if sleep_seconds is None else sleep_seconds)
        self.wake_seconds = Average(load_seconds if wake_seconds is None else wake_seconds)
        self.run_seconds = Average(0.1)

    @property
    def load_need(self) -> int:
        """Bytes reserved for a load: its peak, and never less than what stays."""
        return max(self.load.size, self.resident.size)

    @property
    def peak(self) -> int:
        """Most bytes the model ever needs at once."""
        return max(self.load_need, self.resident.size + self.working.size)

    def learn_load(self, resident: int, load_peak: int, seconds: float) -> None:
        """A load has ended and showed what it takes."""
        self.resident = Figure(resident, Origin.MEASURED)
        self.load = Figure(max(load_peak, resident), Origin.MEASURED)
        self.load_seconds.add(seconds)

    def learn_run(self, peak: int) -> None:
        """A run peaked at ``peak`` bytes of the whole process."""
        if peak - self.resident.size > self.working.size:
            self.working = Figure(peak - self.resident.size, Origin.MEASURED)
