"""The files that a config's models need: which are not here, and how they are fetched and converted."""

from pathlib import Path
from typing import NamedTuple

from cohabit.config import defaults
from cohabit.config.model import Config
from cohabit.config.paths import derived_dir, weights_dir
from cohabit.protocol.engine import Derivation
from cohabit.sources import Bundled, Progress, SourceError, cached, derive, derived, parse, resolve, verify
from cohabit.sources.progress import ignore


class Wanted(NamedTuple):
    """One file or folder that a model needs."""

    source: str
    derivation: Derivation | None = None  # what must be made of it before it can be used

    def here(self, base: Path) -> bool:
        """Whether nothing has to be fetched or made; not if that cannot be known either."""
        if isinstance(parse(self.source), Bundled):
            return True
        try:
            found = cached(self.source, weights_dir=weights_dir(), base_dir=base)
            return found is not None and derived(found, self.derivation, derived_dir()) is not None
        except SourceError:
            return False

    def fetch(self, base: Path, *, progress: Progress = ignore, check: bool = False) -> Path | None:
        """Where it is, once it is fetched and converted; None if it comes with the engine. ``check`` also hashes what
        was here. Raises SourceError."""
        weights = weights_dir()
        place = resolve(self.source, weights_dir=weights, base_dir=base, progress=progress)
        if check:
            verify(self.source, weights_dir=weights, base_dir=base, progress=progress)
        if place is None:
            return None
        return derive(place, self.derivation, derived_dir(), progress=progress, check=check)


def wanted(config: Config) -> dict[str, Wanted]:
    """By who wants it: ``llm``, ``embeddings tokenizer``."""
    sources: dict[str, Wanted] = {}
    for name, model in config.models.items():
        derivations = defaults.derivations(model)
        if model.source is not None:
            sources[name] = Wanted(model.source, derivations.get("source"))
        for role, source in model.files.items():
            sources[f"{name} {role}"] = Wanted(source, derivations.get(role))
    return sources


def missing(config: Config) -> dict[str, Wanted]:
    """Of them, what is not here yet."""
    return {user: one for user, one in wanted(config).items() if not one.here(config.base_dir)}


def fetch_missing(config: Config) -> dict[str, SourceError]:
    """Fetch and convert what is not here yet; why some could not be had."""
    failures = {}
    for user, one in missing(config).items():
        try:
            one.fetch(config.base_dir)
        except SourceError as error:
            failures[user] = error
    return failures
