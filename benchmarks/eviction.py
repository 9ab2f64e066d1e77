"""Seconds spent bringing models back: GDSF and LRU of the production core, beside what no policy can beat.

87 models share a cache that holds 20 or 40 % of all their bytes; the most popular has 31 % of the requests and the
first five 70 %, 75 % of consecutive requests are for another model than the one before. Sizes are log-uniform from 1
to 16 GiB. What a model costs to bring back is the same for all (uniform), or log-uniform from 0.5 to 60 s: a copy in
host memory, or a cold start (varied). Runs take no time and requests are so far apart that nothing waits for anything
but its own load: each request is an access to a cache, and eviction is all that is decided. First loads, which nobody
is spared, count; ``first_loads`` tells how much of the seconds they are.

The bound is PFOO-L (Berger, Beckmann, Harchol-Balter, "Practical Bounds on Optimal Caching with Variable Object
Sizes", POMACS 2018): of all the intervals between two uses of a model, those are kept that save most for the space
and time they take, as if the cache only had to be within its size on average.
"""

import argparse
import random
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from _machine import keep
from cohabit.core.controller import Controller
from cohabit.core.eviction import Policy
from cohabit.core.ledger import Ledger
from cohabit.core.model_state import ModelPolicy
from cohabit.simulate.behaviour import Behaviour, known_model
from cohabit.simulate.generator import Shape, generate, model_names, stratified
from cohabit.simulate.shell import VirtualShell
from cohabit.simulate.stats import Tally

SEEDS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19)
MODELS = 87
REQUESTS = 3_000
CACHES = (0.2, 0.4)
APART = 600.0  # seconds between requests: longer than any load, and than any model must have been idle to be evicted
SMALLEST, LARGEST = 1 << 30, 16 << 30  # bytes
UNIFORM = 10.0  # seconds to bring any model back
CHEAPEST, DEAREST = 0.5, 60.0  # or between these


class Item(NamedTuple):
    """A model as a cache sees it: bytes, and seconds to bring it back."""

    size: int
    cost: float


def accesses(seed: int, requests: int) -> list[str]:
    """The models asked for, in order."""
    return [arrival.model for arrival in generate(Shape(models=MODELS, requests=requests), seed)]


def items(seed: int, *, varied: bool) -> dict[str, Item]:
    """All models. Size, cost and popularity have nothing to do with each other."""
    drawn = random.Random(f"items {seed}")
    sizes = [int(SMALLEST * (LARGEST / SMALLEST) ** u) for u in stratified(MODELS, drawn)]
    costs = [CHEAPEST * (DEAREST / CHEAPEST) ** u if varied else UNIFORM for u in stratified(MODELS, drawn)]
    return {name: Item(size, cost) for name, size, cost in zip(model_names(MODELS), sizes, costs, strict=True)}


def reload_seconds(trace: Sequence[str], models: dict[str, Item], capacity: int, policy: Policy) -> float:
    """Of the production core, first loads included."""
    behaviours = {
        name: Behaviour(idle=item.size, load=item.size, activation=0, load_seconds=item.cost)
        for name, item in models.items()
    }
    core = Controller(
        [known_model(ModelPolicy(name=name), takes) for name, takes in behaviours.items()],
        Ledger(budget=capacity, keep_free=0, slots=1),
        policy,
    )
    tally = Tally()
    shell = VirtualShell(core.handle, behaviours, total=capacity, observers=[tally.handled])
    for place, name in enumerate(trace):
        shell.ask(name, at=APART * place, run_seconds=0.0)
    shell.run()
    return sum(model.load_seconds for model in tally.models.values())


def pfoo_l(trace: Sequence[str], models: dict[str, Item], capacity: int) -> float:
    """Seconds of loading below which no policy can come, whatever it knows of the future.

    Keeping a model from one use to the next takes its size for so many steps and saves its cost once. As a
    relaxation, the cache may be over its size at times if it is within it on average: so the best savings per
    space and time are taken until that is used up, the last one in part.
    """
    last: dict[str, int] = {}
    reuses: list[tuple[float, float]] = []  # what it saves, and the space and time it takes
    paid = 0.0
    for place, name in enumerate(trace):
        size, cost = models[name]
        if name in last:
            reuses.append((cost, float(size * (place - last[name]))))
        last[name] = place
        paid += cost
    left = float(capacity * len(trace))
    for cost, takes in sorted(reuses, key=lambda reuse: reuse[0] / reuse[1], reverse=True):
        share = min(1.0, left / takes)
        paid -= share * cost
        left -= share * takes
        if left <= 0:
            break
    return paid


def compared(seed: int, *, cache: float, varied: bool, requests: int = REQUESTS) -> dict[str, float]:
    """One trace: seconds by policy, the bound, and the part of each that nobody is spared."""
    trace, models = accesses(seed, requests), items(seed, varied=varied)
    capacity = int(cache * sum(item.size for item in models.values()))
    found = {policy.value: reload_seconds(trace, models, capacity, policy) for policy in Policy}
    first = sum(models[name].cost for name in set(trace))
    return {**found, "pfoo_l": pfoo_l(trace, models, capacity), "first_loads": first}


def summed(runs: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Of all seeds: mean seconds, and the mean and extremes of what gdsf took in parts of what lru did."""
    ratios = [run["gdsf"] / run["lru"] for run in runs]
    mean = {name: round(statistics.fmean(run[name] for run in runs), 1) for name in runs[0]}
    return {
        "mean_reload_seconds": mean,
        "gdsf_to_lru": {
            "mean": round(statistics.fmean(ratios), 3),
            "least": round(min(ratios), 3),
            "most": round(max(ratios), 3),
        },
        "to_pfoo_l": {
            name: round(statistics.fmean(run[name] / run["pfoo_l"] for run in runs), 2) for name in ("gdsf", "lru")
        },
    }


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=REQUESTS, help="of each trace")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="only the first so many")
    asked = parser.parse_args()
    figures: dict[str, Any] = {"models": MODELS, "requests": asked.requests, "seeds": SEEDS[: asked.seeds]}
    for costs in ("uniform", "varied"):
        for cache in CACHES:
            runs = [
                compared(seed, cache=cache, varied=costs == "varied", requests=asked.requests)
                for seed in SEEDS[: asked.seeds]
            ]
            figures[f"{costs}_costs_cache_{cache:.0%}"] = summed(runs)
    keep("eviction", figures)


if __name__ == "__main__":
    main()
