"""One request for a model that is not in, while six clients keep another one busy: three runs on real processes.

``tests/e2e/test_no_starvation.py`` asserts that both are served, whatever the machine.
"""

import statistics
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from _machine import keep

_TESTS = str(Path(__file__).parents[1] / "tests")
sys.path.append(_TESTS)
try:
    from starving import BEFORE, CLIENTS, MAX_WAIT, SECONDS, Turn, once
finally:
    sys.path.remove(_TESTS)

RUNS = 3


def run() -> Turn:
    """One, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return once(Path(folder))


def main() -> None:
    """Medians, and every run."""
    turns = [run() for _ in range(RUNS)]
    figures = {
        "clients": CLIENTS,
        "max_wait": MAX_WAIT,
        "seconds": SECONDS,
        "seconds_alone": BEFORE,
        "answered_after": statistics.median(turn.took for turn in turns),
        "allowed": statistics.median(MAX_WAIT + turn.drain + turn.switch for turn in turns),
        "share_of_the_others": statistics.median(turn.share for turn in turns),
        "runs": [asdict(turn) for turn in turns],
    }
    keep("starvation", figures)


if __name__ == "__main__":
    main()
