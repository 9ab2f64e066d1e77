"""What the embedded models take, as ``cohabit measure`` finds it with nothing else running."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from platformdirs import user_cache_path

from _machine import keep


def mib(size: int | None) -> int | None:
    """Bytes as MiB."""
    return None if size is None else round(size / 2**20)


def main() -> None:
    """Measure and keep."""
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "cache").symlink_to(user_cache_path("cohabit"), target_is_directory=True)
        command = [str(Path(sys.executable).parent / "cohabit"), "measure"]
        subprocess.run(command, env=os.environ | {"COHABIT_HOME": home}, stdout=subprocess.DEVNULL, check=True)
        measured = json.loads((Path(home) / "state" / "footprints.json").read_text())["profiles"]
    figures = {
        profile["model"]: {
            **{f"{part}_mib": mib(profile[part]) for part in ("resident", "load", "working", "residue")},
            **{key: profile[key] for key in profile if key.endswith("_seconds") and key != "run_seconds"},
        }
        for profile in measured.values()
    }
    keep("footprints", figures)


if __name__ == "__main__":
    main()
