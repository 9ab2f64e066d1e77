"""Thirty ``kill -9`` of the server during one batch, each at a random moment after it was ready for 5 seconds.

The same code as tests/process/test_crashes.py, for longer: at the end every line is answered exactly once, in the
order of the input, each with its own answer. On SQLite and on PostgreSQL.
"""

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from _machine import keep

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from crashing import survive
from postgres import postgres

READY = (5.0, 7.0)  # seconds


def main() -> None:
    """Both databases, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--lines", type=int, default=22_000)
    asked = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        figures["sqlite"] = asdict(survive(Path(folder), asked.lines, asked.kills, READY, seed=1))
    with tempfile.TemporaryDirectory() as folder, postgres() as cluster:
        figures["postgresql"] = asdict(
            survive(Path(folder), asked.lines, asked.kills, READY, seed=2, url=cluster.url)
        )
    keep("crashes", {"seconds_ready_before_each_kill": READY, **figures})


if __name__ == "__main__":
    main()
