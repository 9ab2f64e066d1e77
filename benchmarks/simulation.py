"""How long `cohabit simulate` takes for 30,000 requests over 100 models as it generates them, files read included."""

import statistics
import tempfile
import time
from pathlib import Path

from _machine import keep
from cohabit.core.eviction import Policy
from cohabit.simulate.fleet import load_fleet, run_trace
from cohabit.simulate.generator import Shape, generate, synthetic_config
from cohabit.simulate.report import report
from cohabit.simulate.traces import read_trace, write_trace

MODELS = 100
REQUESTS = 30_000
RUNS = 3


def main() -> None:
    """Measure and keep."""
    figures: dict[str, float] = {"models": MODELS, "requests": REQUESTS}
    with tempfile.TemporaryDirectory() as folder:
        trace, config = Path(folder) / "trace.jsonl", Path(folder) / "sim.yaml"
        with trace.open("w", encoding="utf-8") as file:
            write_trace(generate(Shape(models=MODELS, requests=REQUESTS), 0), file)
        config.write_text(synthetic_config(MODELS, 0, cache=0.3), encoding="utf-8")
        for policy in Policy:
            seconds = []
            for _ in range(RUNS):
                began = time.monotonic()
                fleet = load_fleet(config)
                told = report(run_trace(fleet, read_trace(trace, fleet.aliases), policy), policy)
                seconds.append(time.monotonic() - began)
            assert told["served"] == REQUESTS
            figures[f"{policy}_seconds_median_of_{RUNS}"] = round(statistics.median(seconds), 2)
            figures[f"{policy}_simulated_days"] = round(told["seconds"] / 86_400, 1)
    keep("simulation", figures)


if __name__ == "__main__":
    main()
