"""Real weights for engine tests: fetched once into the user's cache, by the same code that serves."""

from pathlib import Path

import pytest
from platformdirs import user_cache_path

from cohabit.config import defaults
from cohabit.config.load import load_config
from cohabit.protocol.spec import ModelSpec
from cohabit.sources import derive, resolve


@pytest.fixture(scope="session")
def preset_specs() -> dict[str, ModelSpec]:
    """The models of the preset ``embedded``, their files fetched."""
    config = load_config("embedded")

    cache = user_cache_path("cohabit")

    def path(source: str | None) -> Path | None:
        return resolve(source, weights_dir=cache / "weights", base_dir=config.base_dir) if source else None

    def spec(name: str) -> ModelSpec:
        model = config.models[name]
        made = defaults.derivations(model)
        found = {role: path(source) for role, source in {"source": model.source, **model.files}.items()}
        files = {
            role: derive(one, made.get(role), cache / "derived") for role, one in found.items() if one is not None
        }
        return defaults.model_spec(config, name, files.pop("source", None), files)

    return {name: spec(name) for name in config.models}
