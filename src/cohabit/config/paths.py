"""Where things are kept: the platform's folders, or all under COHABIT_HOME."""

import os
from pathlib import Path

from platformdirs import user_cache_path, user_state_path


def _home(kind: str) -> Path | None:
    home = os.environ.get("COHABIT_HOME")
    return Path(home).expanduser().absolute() / kind if home else None


def cache_dir() -> Path:
    """What can be fetched or made again: ``weights``, ``derived``, ``envs``."""
    return _home("cache") or user_cache_path("cohabit")


def state_dir() -> Path:
    """What cannot: ``footprints.json``, ``journal``, ``batches.db``, ``keys.json``, later voices."""
    return _home("state") or user_state_path("cohabit")


def weights_dir() -> Path:
    """Fetched weights."""
    return cache_dir() / "weights"


def derived_dir() -> Path:
    """What was made of weights that came in another form."""
    return cache_dir() / "derived"


def footprints_file() -> Path:
    """Measured footprints."""
    return state_dir() / "footprints.json"


def batches_file() -> Path:
    """Files and batches, unless the config names a database."""
    return state_dir() / "batches.db"


def keys_file() -> Path:
    """API keys, as hashes."""
    return state_dir() / "keys.json"


def journal_dir() -> Path:
    """What servers recorded of their decisions."""
    return state_dir() / "journal"
