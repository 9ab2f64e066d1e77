"""The memory plan: what every model needs, who says so, and whether it fits. Starts nothing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cohabit.config import defaults
from cohabit.config.model import Config
from cohabit.core.fit import max_bytes_for, never_fits
from cohabit.core.footprints import Figure, Footprint, Origin
from cohabit.core.ledger import Ledger
from cohabit.core.model_state import Model
from cohabit.core.state import SchedulerState
from cohabit.devices.cuda import CONTEXT_BYTES
from cohabit.engines.registry import engine_class
from cohabit.runtime.profile_store import Profile, ProfileStore, profile_key
from cohabit.sources import SourceError, cached, size_of

_PRECISION = re.compile(
    r"(?i)(?<![a-z0-9])(i?q\d(?:_[a-z0-9]+)*|int[48]|fp?(?:8|16|32)|bf16|awq|gptq|nvfp4)(?![a-z0-9])"
)

START_SECONDS = 0.5  # of a process with its imports
COPYING_BYTES = 10e9  # a second: a host copy back to a card, a guess until measured
READING_BYTES = 1e9  # a second: weights into fresh buffers, measured at 1.0 to 1.3 GB/s


@dataclass(frozen=True, slots=True)
class PlanRow:
    """One model of the plan."""

    name: str
    engine: str
    precision: str
    footprint: Footprint
    fits: bool
    borne_out: bool = True  # False: it was measured to need more than there is, and is taken to need no more

    @property
    def idle(self) -> Figure:
        """Held while ready and idle."""
        return self.footprint.idle

    @property
    def peak(self) -> Figure:
        """Most it ever holds, as trusted as the least of what it is made of."""
        parts = (self.footprint.idle, self.footprint.activation, self.footprint.load)
        origins = [part.origin for part in parts]
        weakest = max(origins, key=[Origin.MEASURED, Origin.DECLARED, Origin.ESTIMATED].index)
        return Figure(self.footprint.peak, weakest)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a config means on this device."""

    rows: list[PlanRow]
    device: str
    total: int
    keep_free: int
    inspection: int  # kept for the processes that open pictures and sound, beside the models
    budget: int
    host_cache: int

    @property
    def idle(self) -> int:
        """Of all models together."""
        return sum(row.idle.size for row in self.rows)

    @property
    def needed(self) -> int:
        """Bytes with which all models could be resident and run at once."""
        return sum(max(row.footprint.load_need, row.peak.size) for row in self.rows)

    @property
    def headroom(self) -> int:
        """What the budget leaves beyond that; negative where they take turns."""
        return self.budget - self.needed

    @property
    def copies(self) -> int:
        """Host memory that copies of all models that keep one would take."""
        return sum(copy.size for row in self.rows if (copy := row.footprint.host_copy) is not None)

    @property
    def never(self) -> list[PlanRow]:
        """Models that can never fit."""
        return [row for row in self.rows if not row.fits]

    @property
    def notes(self) -> list[str]:
        """What its owner should know of figures, a line each."""
        return [
            f"{row.name} was measured to need more than the budget of {mib(self.budget)} leaves it, and is taken to "
            f"need at most that; `cohabit footprints forget {row.name}` drops what was measured"
            for row in self.rows
            if not row.borne_out
        ]

    @property
    def verdict(self) -> str:
        """One line."""
        if self.never:
            return "; ".join(
                f"{row.name} can never fit: it needs {mib(row.peak.size)}, the budget is {mib(self.budget)}"
                f"{' (`cohabit footprints list` shows what was measured)' if row.footprint.was_measured else ''}"
                for row in self.never
            )
        return "all fit at once" if self.headroom >= 0 else "these take turns"


def mib(size: int) -> str:
    """Bytes for people."""
    return f"{size / 2**20:,.0f} MiB"


def make_plan(config: Config, *, total: int, host: int, footprints: ProfileStore, weights: Path) -> Plan:
    """For a device with ``total`` bytes, in a host of whose memory ``host`` bytes are free.

    What a source has that cannot be read is not known, as if it were not here yet.

    What was measured never makes a model unfit that fits by what is declared or estimated: a figure may be of a run
    that broke the books, or of another machine. It is then taken to need no more than there is.
    """
    budget = defaults.budget(config, total)
    stated = {name: stated_of(config, name, weights) for name in config.models}
    made = {name: _of(config, name, said, footprints) for name, said in stated.items()}
    measured = _state(config, made, budget)
    by_statement = _state(config, {name: said.footprint(None) for name, said in stated.items()}, budget)
    rows = []
    for name, model in measured.models.items():
        # The core's own rule decides, so that the plan and the first request cannot disagree.
        fits, borne_out = not never_fits(measured, model), True
        if not fits and not never_fits(by_statement, by_statement.models[name]):
            made[name] = _within(made[name], stated[name], max_bytes_for(measured, model))
            fits, borne_out = True, False
        source = config.models[name].source
        rows.append(
            PlanRow(name, config.models[name].engine, precision(source), made[name], fits=fits, borne_out=borne_out)
        )
    keep_free, host_cache = defaults.keep_free(config, total), defaults.host_cache(config, host)
    return Plan(rows, config.device.kind, total, keep_free, defaults.inspection(config), budget, host_cache)


def footprint_of(config: Config, name: str, footprints: ProfileStore, weights: Path) -> Footprint:
    """In order of trust, figure by figure: measured here, declared by the owner, estimated from the files."""
    return _of(config, name, stated_of(config, name, weights), footprints)


def _of(config: Config, name: str, stated: "Stated", footprints: ProfileStore) -> Footprint:
    return stated.footprint(footprints.find(profile_key(config.models[name], config.device.kind)))


def _state(config: Config, made: Mapping[str, Footprint], budget: int) -> SchedulerState:
    models = [Model(defaults.model_policy(config, name), footprint) for name, footprint in made.items()]
    return SchedulerState(models, Ledger(budget=budget, keep_free=0, slots=1))


def _within(measured: Footprint, stated: "Stated", most: int) -> Footprint:
    """As measured, but with a peak of at most ``most`` bytes. Where the model alone was seen to take more, what was
    stated stands until the next load."""
    measured.cap(most)
    if measured.peak > most:
        declared = stated.footprint(None)
        measured.idle, measured.load = declared.idle, declared.load
        measured.cap(most)
    return measured


@dataclass(frozen=True, slots=True)
class Stated:
    """What is declared of a model or estimated from its files. Bytes, seconds."""

    idle: Figure
    load: Figure
    activation: Figure
    load_seconds: float
    context: int  # on a card, of a bare process
    copies: bool  # it sleeps by a copy in host memory

    def footprint(self, profile: Profile | None) -> Footprint:
        """With what was measured, if anything, in its place."""
        seen = profile or Profile(model="", idle=0, load=0, load_seconds=self.load_seconds)
        idle = Figure(seen.idle, Origin.MEASURED) if seen.idle else self.idle
        load = Figure(seen.load, Origin.MEASURED) if seen.load else self.load
        activation = self.activation
        if seen.activation > activation.size:
            activation = Figure(seen.activation, Origin.MEASURED)  # a run can only show that more is needed
        sleep_resident = None if seen.sleep_resident is None else Figure(seen.sleep_resident, Origin.MEASURED)
        copy, wake_seconds = None, seen.wake_seconds
        if self.copies:  # what is guessed lets it sleep before it was measured
            guessed = Figure(max(0, idle.size - self.context), Origin.ESTIMATED)
            copy = Figure(seen.host_copy, Origin.MEASURED) if seen.host_copy else guessed
            sleep_resident = sleep_resident or Figure(self.context, Origin.ESTIMATED)
            if wake_seconds is None:
                wake_seconds = min(seen.load_seconds, copy.size / COPYING_BYTES)
        return Footprint(
            idle=idle,
            load=load,
            activation=activation,
            sleep_resident=sleep_resident,
            host_copy=copy,
            prewarmed=seen.prewarmed if self.context == 0 else 0,  # on a card nothing
            buckets=seen.buckets,
            load_seconds=seen.load_seconds,
            exit_seconds=seen.exit_seconds,
            sleep_seconds=seen.sleep_seconds,
            wake_seconds=wake_seconds,
            run_seconds=seen.run_seconds,
        )


def stated_of(config: Config, name: str, weights: Path) -> Stated:
    """Declared by the owner, or else estimated from the files, figure by figure."""
    model = config.models[name]
    declared = model.footprint
    sources = [source for source in (model.source, *model.files.values()) if source is not None]
    try:
        found = cached(model.source, weights_dir=weights, base_dir=config.base_dir) if model.source else None
        size = sum(size_of(source, weights_dir=weights, base_dir=config.base_dir) for source in sources)
    except SourceError:  # told when it is fetched, at the start or by the first request; the others are served
        found, size = None, 0
    estimate = engine_class(model.engine).estimate(defaults.model_spec(config, name, found, {}), size)
    context = 0 if config.device.kind == "cpu" else CONTEXT_BYTES

    def figure(said: int | None, guessed: int) -> Figure:
        return Figure(guessed, Origin.ESTIMATED) if said is None else Figure(said, Origin.DECLARED)

    idle = figure(declared.idle, estimate.idle + context)
    added = None if declared.inference is None else max(0, declared.inference - idle.size)
    return Stated(
        idle=idle,
        load=figure(declared.load or declared.idle, estimate.load + context),
        activation=figure(added, estimate.activation),
        load_seconds=guessed_load_seconds(size),
        context=context,
        copies=defaults.copies(config, model),
    )


def guessed_load_seconds(weights: int) -> float:
    """Until a load is measured; ``weights`` in bytes, as they are on disk."""
    return START_SECONDS + weights / READING_BYTES


def precision(source: str | None) -> str:
    """As the file's name tells it; ``-`` if it does not."""
    if source is None:
        return "-"
    matches = _PRECISION.findall(source.partition("#")[0])
    return matches[-1] if matches else "-"
