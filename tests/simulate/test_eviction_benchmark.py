"""The benchmark of eviction, against caches of a few lines, and its bound against the best there is."""

import random
import sys
from functools import cache
from itertools import combinations
from pathlib import Path

import pytest

from cohabit.core.eviction import Policy

_BENCHMARKS = str(Path(__file__).parents[2] / "benchmarks")
sys.path.append(_BENCHMARKS)  # only for this import: core.py there would hide the folder core of the tests
try:
    from eviction import CACHES, SEEDS, Item, accesses, compared, items, pfoo_l, reload_seconds, summed
finally:
    sys.path.remove(_BENCHMARKS)


def reference(trace: list[str], models: dict[str, Item], capacity: int, policy: Policy) -> float:
    """GDSF and LRU as the literature has them, where those that a later victim made superfluous stay."""
    inflation, paid = 0.0, 0.0
    held: dict[str, tuple[int, float, int]] = {}  # uses, the inflation at the last, and when that was

    def score(name: str) -> float:
        uses, inflated, used = held[name]
        return used if policy is Policy.LRU else inflated + uses * models[name].cost / models[name].size

    for now, name in enumerate(trace):
        uses = held[name][0] if name in held else 0
        if name not in held:
            paid += models[name].cost
            full = sum(models[other].size for other in held) + models[name].size - capacity
            gone: list[str] = []
            for victim in sorted(held, key=score):
                if sum(models[other].size for other in gone) < full:
                    gone.append(victim)
            for victim in list(gone):
                if sum(models[other].size for other in gone if other != victim) >= full:
                    gone.remove(victim)
            for victim in gone:
                inflation = max(inflation, score(victim))
                del held[victim]
        held[name] = (uses + 1, inflation, now)
    return paid


@pytest.mark.parametrize("varied", [False, True])
@pytest.mark.parametrize("share", CACHES)
def test_the_core_evicts_as_the_reference_does(share: float, varied: bool) -> None:
    trace, models = accesses(1, 400), items(1, varied=varied)
    capacity = int(share * sum(item.size for item in models.values()))
    for policy in Policy:
        found = reload_seconds(trace, models, capacity, policy)
        assert found == pytest.approx(reference(trace, models, capacity, policy))


def best(trace: list[str], models: dict[str, Item], capacity: int) -> float:
    """What somebody pays who knows the future and tries everything."""

    @cache
    def rest(place: int, held: frozenset[str]) -> float:
        if place == len(trace):
            return 0.0
        name = trace[place]
        paid = 0.0 if name in held else models[name].cost
        others = sorted(held - {name})
        kept = (set(chosen) | {name} for count in range(len(others) + 1) for chosen in combinations(others, count))
        return paid + min(
            rest(place + 1, frozenset(these)) for these in kept if sum(models[one].size for one in these) <= capacity
        )

    return rest(0, frozenset())


@pytest.mark.parametrize("seed", range(20))
def test_no_policy_is_better_than_the_bound(seed: int) -> None:
    drawn = random.Random(seed)
    models = {name: Item(drawn.randint(1, 5), drawn.uniform(0.5, 10.0)) for name in "abcde"}
    trace = drawn.choices("abcde", k=12)
    least = best(trace, models, 7)
    assert pfoo_l(trace, models, 7) <= least + 1e-9
    assert sum(models[name].cost for name in set(trace)) <= pfoo_l(trace, models, 7) + 1e-9
    for policy in Policy:
        assert least <= reference(trace, models, 7, policy) + 1e-9


def test_bound_agrees_with_one_computed_by_hand() -> None:
    models = {"a": Item(1, 10.0), "b": Item(1, 4.0)}
    trace = ["a", "b", "a", "b"]  # each reuse takes 2 of the 4 that a cache of 1 has in all
    assert pfoo_l(trace, models, 1) == 14.0
    assert pfoo_l([*trace, "a"], models, 1) == pytest.approx(14.0 + 4.0 * 0.5), "half of the last, 5 steps in all"
    assert pfoo_l(trace, models, 0) == 28.0


def test_cache_for_all_models_loads_each_once() -> None:
    trace, models = accesses(0, 300), items(0, varied=True)
    capacity = sum(item.size for item in models.values())
    once = pytest.approx(sum(models[name].cost for name in set(trace)))
    assert pfoo_l(trace, models, capacity) == once
    for policy in Policy:
        assert reload_seconds(trace, models, capacity, policy) == once


def test_comparison_ranks_bound_gdsf_and_lru() -> None:
    run = compared(0, cache=0.2, varied=True, requests=500)
    assert run["first_loads"] <= run["pfoo_l"] <= run["gdsf"] < run["lru"]
    told = summed([run, {name: 2 * seconds for name, seconds in run.items()}])
    assert told["mean_reload_seconds"]["lru"] == pytest.approx(1.5 * run["lru"], abs=0.1)
    assert told["gdsf_to_lru"]["mean"] == pytest.approx(run["gdsf"] / run["lru"], abs=0.001)
    assert len(set(SEEDS)) == 20
