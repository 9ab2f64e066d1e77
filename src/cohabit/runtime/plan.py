"""The memory plan: what every model needs, who says so, and whether it fits. Starts nothing."""

import re
from dataclasses import dataclass
from pathlib import Path

from cohabit.config import resolved
from cohabit.config.model import Config
from cohabit.core.footprints import Figure, Footprint, Origin
from cohabit.core.ledger import Ledger
from cohabit.core.room import never_fits
from cohabit.core.state import Books, Model
from cohabit.devices.cuda import CONTEXT_BYTES
from cohabit.engines.registry import engine_class
from cohabit.runtime.footprints import Footprints, Profile, profile_key
from cohabit.sources import SourceError, cached, size_of

_PRECISION = re.compile(
    r"(?i)(?<![a-z0-9])(i?q\d(?:_[a-z0-9]+)*|int[48]|fp?(?:8|16|32)|bf16|awq|gptq|nvfp4)(?![a-z0-9])"
)

START_SECONDS = 0.5  # of a process with its imports
COPYING_BYTES = 10e9  # a second: a host copy back to a card, a guess until measured
READING_BYTES = 1e9  # a second: weights into fresh buffers, measured at 1.0 to 1.3 GB/s


@dataclass(frozen=True, slots=True)
class Row:
    """One model of the plan."""

    name: str
    engine: str
    precision: str
    footprint: Footprint
    fits: bool

    @property
    def resident(self) -> Figure:
        """Held while ready and idle."""
        return self.footprint.resident

    @property
    def peak(self) -> Figure:
        """Most it ever holds, as trusted as the least of what it is made of."""
        parts = (self.footprint.resident, self.footprint.working, self.footprint.load)
        origins = [part.origin for part in parts]
        weakest = max(origins, key=[Origin.MEASURED, Origin.DECLARED, Origin.ESTIMATED].index)
        return Figure(self.footprint.peak, weakest)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a config means on this device."""

    rows: list[Row]
    device: str
    total: int
    keep_free: int
    inspection: int  # kept for the processes that open pictures and sound, beside the models
    budget: int
    host_cache: int

    @property
    def resident(self) -> int:
        """Of all models together."""
        return sum(row.resident.size for row in self.rows)

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
        return sum(copy.size for row in self.rows if (copy := row.footprint.copy) is not None)

    @property
    def never(self) -> list[Row]:
        """Models that can never fit."""
        return [row for row in self.rows if not row.fits]

    @property
    def verdict(self) -> str:
        """One line."""
        if self.never:
            return "; ".join(
                f"{row.name} can never fit: it needs {mib(row.peak.size)}, the budget is {mib(self.budget)}"
                for row in self.never
            )
        return "all fit at once" if self.headroom >= 0 else "these take turns"


def mib(size: int) -> str:
    """Bytes for people."""
    return f"{size / 2**20:,.0f} MiB"


def make_plan(config: Config, *, total: int, host: int, footprints: Footprints, weights: Path) -> Plan:
    """For a device with ``total`` bytes, in a host of whose memory ``host`` bytes are free.

    What a source has that cannot be read is not known, as if it were not here yet.
    """
    budget = resolved.budget(config, total)
    made = {name: footprint_of(config, name, footprints, weights) for name in config.models}
    # The core's own rule decides, so that the plan and the first request cannot disagree.
    models = [Model(resolved.model_policy(config, name), footprint) for name, footprint in made.items()]
    books = Books(models, Ledger(budget=budget, keep_free=0, slots=1))
    rows = [
        Row(
            name,
            config.models[name].engine,
            precision(config.models[name].source),
            footprint,
            fits=not never_fits(books, books.models[name]),
        )
        for name, footprint in made.items()
    ]
    keep_free, host_cache = resolved.keep_free(config, total), resolved.host_cache(config, host)
    return Plan(rows, config.device.kind, total, keep_free, resolved.inspection(config), budget, host_cache)


def footprint_of(config: Config, name: str, footprints: Footprints, weights: Path) -> Footprint:
    """In order of trust, figure by figure: measured here, declared by the owner, estimated from the files."""
    model = config.models[name]
    declared = model.footprint
    sources = [source for source in (model.source, *model.files.values()) if source is not None]
    try:
        found = cached(model.source, weights_dir=weights, base_dir=config.base_dir) if model.source else None
        size = sum(size_of(source, weights_dir=weights, base_dir=config.base_dir) for source in sources)
    except SourceError:  # told when it is fetched, at the start or by the first request; the others are served
        found, size = None, 0
    estimate = engine_class(model.engine).estimate(resolved.model_spec(config, name, found, {}), size)
    unknown = Profile(model=name, resident=0, load=0, load_seconds=guessed_load_seconds(size))
    profile = footprints.find(profile_key(model, config.device.kind)) or unknown

    context = 0 if config.device.kind == "cpu" else CONTEXT_BYTES

    def figure(measured: int | None, said: int | None, guessed: int) -> Figure:
        if measured:
            return Figure(measured, Origin.MEASURED)
        return Figure(guessed, Origin.ESTIMATED) if said is None else Figure(said, Origin.DECLARED)

    resident = figure(profile.resident, declared.resident, estimate.resident + context)
    load = figure(profile.load, declared.load or declared.resident, estimate.load + context)
    working = figure(None, declared.working, estimate.working)
    if profile.working > working.size:
        working = Figure(profile.working, Origin.MEASURED)  # a run can only show that more is needed
    residue = None if profile.residue is None else Figure(profile.residue, Origin.MEASURED)
    copy, wake_seconds = None, profile.wake_seconds
    if resolved.copies(config, model):  # what is guessed lets it sleep before it was measured
        copy = figure(profile.copy, None, max(0, resident.size - context))
        residue = residue or Figure(context, Origin.ESTIMATED)
        if wake_seconds is None:
            wake_seconds = min(profile.load_seconds, copy.size / COPYING_BYTES)
    return Footprint(
        resident=resident,
        load=load,
        working=working,
        residue=residue,
        copy=copy,
        spawned=profile.spawned if context == 0 else 0,  # on a card nothing
        buckets=profile.buckets,
        load_seconds=profile.load_seconds,
        exit_seconds=profile.exit_seconds,
        sleep_seconds=profile.sleep_seconds,
        wake_seconds=wake_seconds,
        run_seconds=profile.run_seconds,
    )


def guessed_load_seconds(weights: int) -> float:
    """Until a load is measured; ``weights`` in bytes, as they are on disk."""
    return START_SECONDS + weights / READING_BYTES


def precision(source: str | None) -> str:
    """As the file's name tells it; ``-`` if it does not."""
    if source is None:
        return "-"
    found = _PRECISION.findall(source.partition("#")[0])
    return found[-1] if found else "-"
