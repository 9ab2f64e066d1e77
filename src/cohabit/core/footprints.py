"""What a model needs, in order of trust: measured here, declared in the config, estimated from its files.

``idle`` and ``load`` are replaced by what a load shows. ``activation`` is only ever raised: one small run says
nothing of the largest one, so its first figure stands until a run shows more. Smaller runs are known by their size:
the upper envelope of what was measured between each two powers of two of the engine's units.

What a client can cause is not a property of the model: a run never teaches more than the model may ever be given
(``cap``), so no request can put a model out of service. Which runs teach anything is decided in ``stretches``.

Running out of memory is not a footprint. It adds a margin of its own, which fades with every success.
"""

from dataclasses import dataclass
from enum import StrEnum

MARGIN_SHARE = 8  # an eighth of the peak is added after running out of memory
_EXIT_SECONDS = 0.2
_RUN_SECONDS = 0.1
LEAST_MARGIN = 32 << 20  # bytes; below this a margin has faded away


class Ewma:
    """An exponentially weighted mean; the first measurement replaces the guess."""

    def __init__(self, guess: float, *, weight: float = 0.3) -> None:
        """``weight`` is the share of the newest measurement."""
        self.value = guess
        self.measured = False
        self._weight = weight

    def add(self, seconds: float) -> None:
        if self.measured:
            self.value += self._weight * (seconds - self.value)
        else:
            self.value = seconds
            self.measured = True


class Origin(StrEnum):
    """Where a figure comes from."""

    MEASURED = "measured"
    DECLARED = "declared"
    ESTIMATED = "estimated"


@dataclass(frozen=True, slots=True)
class Figure:
    """Bytes, and where they come from."""

    size: int
    origin: Origin


@dataclass(frozen=True, slots=True)
class MeasuredRun:
    """The largest runs that were measured between two powers of two of units."""

    units: int
    size: int  # bytes beyond what is resident


class Footprint:
    """Bytes and seconds of one model."""

    def __init__(
        self,
        *,
        idle: Figure,
        load: Figure,
        activation: Figure,
        sleep_resident: Figure | None = None,
        host_copy: Figure | None = None,
        prewarmed: int | None = None,
        buckets: dict[int, MeasuredRun] | None = None,
        load_seconds: float = 2.0,
        exit_seconds: float | None = None,
        sleep_seconds: float | None = None,
        wake_seconds: float | None = None,
        run_seconds: float | None = None,
    ) -> None:
        """Seconds are guesses until measured (None: ours); they decide only when to swap, never what fits.

        ``host_copy`` is in host memory, of a model that keeps one to wake from. ``prewarmed`` are the bytes of its
        process before the load; until they are known none is started before there is room for the model.
        ``sleep_resident`` is what stays of a sleeping model; until it is known, stopping is preferred to sleeping.
        ``buckets`` are runs as measured, by the power of two that bounds their units.
        """
        self.idle = idle
        self.load = load
        self.activation = activation
        self.sleep_resident = sleep_resident
        self.host_copy = host_copy
        self.prewarmed = prewarmed
        self.buckets = dict(buckets or {})
        self.margin = 0
        self.load_seconds = Ewma(load_seconds)
        self.exit_seconds = Ewma(_EXIT_SECONDS if exit_seconds is None else exit_seconds)
        self.sleep_seconds = Ewma(self.exit_seconds.value if sleep_seconds is None else sleep_seconds)
        self.wake_seconds = Ewma(load_seconds if wake_seconds is None else wake_seconds)
        self.run_seconds = Ewma(_RUN_SECONDS if run_seconds is None else run_seconds)

    @property
    def was_measured(self) -> bool:
        """Whether any of the figures that decide what fits was measured, here or by an earlier server."""
        return Origin.MEASURED in {self.idle.origin, self.load.origin, self.activation.origin}

    @property
    def load_need(self) -> int:
        """Bytes reserved for a load: its peak, and never less than what stays."""
        return max(self.load.size, self.idle.size) + self.margin

    @property
    def peak(self) -> int:
        """Most bytes the model ever needs at once."""
        return max(self.load.size, self.idle.size + self.activation.size) + self.margin

    @property
    def inference(self) -> Figure:
        """Bytes held while the largest run lasts, idle bytes included. The origin is that of the activation."""
        return Figure(self.idle.size + self.activation.size, self.activation.origin)

    @property
    def max_activation(self) -> int:
        """Bytes the largest run adds to what is resident."""
        return self.activation.size + self.margin

    def activation_for(self, units: int) -> int:
        """Bytes that a run of so many units adds; of an unknown size (0), what the largest run does."""
        if units <= 0 or not self.buckets:
            return self.max_activation
        bound = min((run.units for run in self.buckets.values() if run.units >= units), default=None)
        if bound is None:
            return self.max_activation  # larger than any that was measured
        return max(run.size for run in self.buckets.values() if run.units <= bound) + self.margin

    def learn_load(self, idle: int, load_peak: int, seconds: float, *, prewarmed: int | None = None) -> None:
        """A load has ended and showed what it takes. ``prewarmed``: what the process held before; None: not known."""
        self._learn_entry(idle, load_peak)
        if prewarmed is not None:
            self.prewarmed = prewarmed
        self.load_seconds.add(seconds)

    def learn_wake(self, idle: int, load_peak: int, seconds: float, most: int) -> None:
        """A sleeping model is back, which may take less than a load but leaves as much.

        What its runs have left behind in its process is in these figures too. If with it the model needed more than
        the ``most`` bytes that it may be given, they are not taken: a load would not show them.
        """
        activation = 0 if self.activation.origin is Origin.MEASURED else self.activation.size
        if max(load_peak, idle + activation) <= most:
            self._learn_entry(idle, load_peak)
        self.wake_seconds.add(seconds)

    def _learn_entry(self, idle: int, load_peak: int) -> None:
        self.idle = Figure(idle, Origin.MEASURED)
        self.load = Figure(max(load_peak, idle), Origin.MEASURED)
        self.fade()

    def learn_sleep(self, held: int, seconds: float) -> None:
        """A model has fallen asleep and still holds ``held`` bytes."""
        self.sleep_resident = Figure(held, Origin.MEASURED)
        self.sleep_seconds.add(seconds)

    def learn_sleeping(self, held: int) -> None:
        """A reading shows what a sleeping model still holds."""
        self.sleep_resident = Figure(held, Origin.MEASURED)

    def learn_host_copy(self, size: int) -> None:
        """A load has made a copy of ``size`` bytes in host memory; 0: it has made none, and nothing is learned."""
        if size:
            self.host_copy = Figure(size, Origin.MEASURED)

    def learn_run(self, used: int, units: int = 0) -> None:
        """A run, or all that ran at the same time, took ``used`` bytes beyond what the worker holds at rest."""
        if used > self.activation.size:
            self.activation = Figure(used, Origin.MEASURED)
        if units > 0:
            bucket = (units - 1).bit_length()  # the power of two that bounds it: 1 -> 0, 2 -> 1, 3 and 4 -> 2
            seen = self.buckets.get(bucket, MeasuredRun(0, 0))
            self.buckets[bucket] = MeasuredRun(max(seen.units, units), max(seen.size, used))
        self.fade()

    def learn_shortage(self, held: int, most: int) -> bool:
        """A load was ended for holding ``held`` bytes, more than was reserved and free: the next is given twice that.

        What it needs is not known, so this is a guess, which a load that ends well replaces. False if it had been
        given ``most`` already, all that it may ever have.
        """
        given = self.load_need
        if given >= most:
            return False
        self.load = Figure(max(given, min(2 * held, most)), Origin.ESTIMATED)
        self.margin = 0
        return True

    def cap(self, most: int) -> None:
        """Take measured runs to need no more than the model may be given: a peak of ``most`` bytes."""
        room = max(0, most - self.idle.size)
        if self.activation.origin is Origin.MEASURED and self.activation.size > room:
            self.activation = Figure(room, Origin.MEASURED)
        for bucket, run in self.buckets.items():
            if run.size > room:
                self.buckets[bucket] = MeasuredRun(run.units, room)

    def widen(self, most: int) -> None:
        """It ran out of memory though no worker held more than reserved: allow for more, up to a peak of ``most``."""
        wanted = self.margin + max(self.peak // MARGIN_SHARE, LEAST_MARGIN)
        self.margin = max(self.margin, min(wanted, most - (self.peak - self.margin)))

    def fade(self) -> None:
        """Something has ended well: the margin shrinks."""
        if self.margin:
            self.margin = self.margin * 3 // 4 if self.margin > LEAST_MARGIN else 0
