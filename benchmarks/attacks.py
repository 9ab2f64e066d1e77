"""What attacks cost honest clients: answers of other models, quiet and during each attack, by turns.

The attacks are those of ``tests/attackers.py``, on four real models of the preset. All fit into the budget, so that
an attack is measured and not who takes turns with whom: where they do not fit, who waits 5 s for a swap differs from
run to run, with and without an attack. ``tests/e2e/test_attacks.py`` has them in less. For each attack the server
works for SECONDS without and for SECONDS with it, RUNS times each. Kept are, for each other model, medians of the
95th percentile of what its clients waited, and the largest control plane.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from _load import percentile
from _machine import keep

_TESTS = str(Path(__file__).parents[1] / "tests")
sys.path.append(_TESTS)
try:
    from attackers import ATTACKS, Answer, Attack, Honest
    from harness import Running, Watch, preset, serving
finally:
    sys.path.remove(_TESTS)

KINDS = ("llm", "embeddings", "vision", "stt")
RUNS = 3
SECONDS = 5.0
REST = 1.0  # between two runs, for what an attack left to end
LIMIT = 60.0  # seconds that a client waits
ALLOWED = "3 times quiet and 0.2 s"


def p95(answers: list[Answer], kind: str) -> float:
    """95th percentile of the seconds of all answers of this kind, refusals included.

    Never of several kinds together: fast kinds answer less often during an attack, so that the percentile would rise
    to the time that slow kinds take anyway.
    """
    return percentile([answer.seconds for answer in answers if answer.kind == kind], 95)


def work(server: Running, attack: Attack, *, attacked: bool) -> list[Answer]:
    """One run."""
    honest = Honest(server, LIMIT, KINDS)
    if attacked:
        with attack.under_way(server, SECONDS):
            honest.work(SECONDS)
    else:
        honest.work(SECONDS)
    time.sleep(REST)
    return honest.answers


def measure(server: Running, attack: Attack) -> dict[str, Any]:
    """Quiet and attacked by turns."""
    others = [kind for kind in KINDS if kind != attack.target]
    quiet: dict[str, list[float]] = {kind: [] for kind in others}
    attacked: dict[str, list[float]] = {kind: [] for kind in others}
    refused = lost = 0
    with Watch(lambda: psutil.Process(server.pid).memory_info().rss, every=0.1) as memory:
        for _ in range(RUNS):
            undisturbed = work(server, attack, attacked=False)
            answers = work(server, attack, attacked=True)
            for kind in others:
                quiet[kind].append(p95(undisturbed, kind))
                attacked[kind].append(p95(answers, kind))
            refused += sum(answer.status in {429, 503} for answer in answers)
            lost += sum(answer.status not in {200, 429, 503} for answer in answers)
    medians = {kind: (statistics.median(quiet[kind]), statistics.median(attacked[kind])) for kind in others}
    return {
        "attack": attack.name,
        "target": attack.target,
        "p95_seconds": {
            kind: {"quiet": round(before, 3), "attacked": round(during, 3)}
            for kind, (before, during) in medians.items()
        },
        "within_goal": all(during <= 3 * before + 0.2 for before, during in medians.values()),
        "refused": refused,
        "lost": lost,
        "control_plane_mib": memory.most >> 20,
    }


def main() -> None:
    """All attacks, or those whose names contain a word."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", metavar="WORD", help="only attacks with this in their name; the result is not kept")
    asked = parser.parse_args()
    chosen = [attack for attack in ATTACKS if asked.only is None or asked.only in attack.name]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        config = json.loads(preset(*KINDS))
        config["scheduling"] = {"max_wait": "10s"}
        with serving(Path(folder), json.dumps(config), "--budget", "1500MiB") as server:
            Honest(server, LIMIT, KINDS).work()
            for attack in chosen:
                found.append(measure(server, attack))
                print(json.dumps(found[-1]), file=sys.stderr, flush=True)
    if asked.only is None:
        keep("attacks", {"goal_p95": ALLOWED, "seconds": SECONDS, "runs": RUNS, "attacks": found})
    else:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
