"""Real weights for engine tests: fetched once into the user's cache, by the same code that serves."""

from pathlib import Path

import pytest
from platformdirs import user_cache_path

from cohabit.config import resolved
from cohabit.config.load import load_config
from cohabit.protocol.spec import ModelSpec
from cohabit.sources import resolve


@pytest.fixture(scope="session")
def preset_specs() -> dict[str, ModelSpec]:
    """The models of the preset ``embedded``, their files fetched."""
    config = load_config("embedded")

    def path(source: str) -> Path:
        found = resolve(source, weights_dir=user_cache_path("cohabit") / "weights", base_dir=config.base_dir)
        assert found is not None
        return found

    return {
        name: resolved.model_spec(
            config,
            name,
            path(model.source or ""),
            {role: path(source) for role, source in model.files.items()},
        )
        for name, model in config.models.items()
    }
