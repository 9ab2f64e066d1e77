"""Generated traces have the properties that were asked for, as measured on what came out."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from statistics import fmean, pstdev

import pytest

from cohabit.config.load import parse_config
from cohabit.simulate.fleet import fleet_of
from cohabit.simulate.generator import Shape, ShapeError, fitted, generate, model_names, popularity, synthetic_config
from cohabit.simulate.traces import Arrival


def shares(trace: list[Arrival]) -> list[float]:
    """Of the models, the largest first."""
    return [count / len(trace) for _, count in Counter(one.model for one in trace).most_common()]


def changes(trace: list[Arrival]) -> float:
    return fmean(one.model != other.model for one, other in pairwise(trace))


def cv(trace: list[Arrival]) -> float:
    gaps = [other.at - one.at for one, other in pairwise(trace)]
    return pstdev(gaps) / fmean(gaps)


def rank(values: list[float], share: float) -> float:
    return sorted(values)[int(share * len(values))]


@pytest.mark.parametrize("seed", range(3))
def test_default_trace_has_the_shape_of_a_real_one(seed: int) -> None:
    trace = generate(Shape(requests=10_000), seed)
    assert len(trace) == 10_000
    assert trace[0].at == 0.0
    assert all(one.at <= other.at for one, other in pairwise(trace))
    assert len({one.model for one in trace}) == 87
    assert shares(trace)[0] == pytest.approx(0.31, abs=0.02)
    assert sum(shares(trace)[:5]) == pytest.approx(0.70, abs=0.02)
    assert changes(trace) == pytest.approx(0.75, abs=0.02)
    assert cv(trace) == pytest.approx(12, rel=0.1)
    runs = [one.run_seconds for one in trace]
    assert rank(runs, 0.5) == pytest.approx(23, rel=0.02)
    assert rank(runs, 0.99) == pytest.approx(106, rel=0.05)
    assert sum(runs) / trace[-1].at == pytest.approx(0.5, rel=0.02)


def test_trace_has_the_requested_shape() -> None:
    trace = generate(
        Shape(models=20, requests=5_000, seconds=600, zipf=1.0, changes=0.5, cv=3, run_p50=0, run_p99=0), 1
    )
    assert trace[-1].at == 600
    harmonic = sum(1 / place for place in range(1, 21))
    assert shares(trace)[0] == pytest.approx(1 / harmonic, abs=0.02)
    assert shares(trace)[4] == pytest.approx(0.2 / harmonic, abs=0.01)
    assert changes(trace) == pytest.approx(0.5, abs=0.02)
    assert cv(trace) == pytest.approx(3, rel=0.1)
    assert {one.run_seconds for one in trace} == {0.0}


def test_arrivals_without_bursts_are_poisson() -> None:
    trace = generate(Shape(requests=5_000, cv=1), 0)
    assert cv(trace) == pytest.approx(1, abs=0.02)


def test_the_same_seed_makes_the_same_trace_and_another_another() -> None:
    shape = Shape(requests=200)
    assert generate(shape, 7) == generate(shape, 7)
    assert generate(shape, 7) != generate(shape, 8)
    longer_runs = generate(Shape(requests=200, run_p50=30, seconds=generate(shape, 7)[-1].at), 7)
    assert [one.at for one in longer_runs] == pytest.approx([one.at for one in generate(shape, 7)])


def test_trace_of_one_request_is_possible() -> None:
    assert generate(Shape(models=1, requests=1, zipf=1, changes=0, seconds=5, run_p50=1, run_p99=1), 0) == [
        Arrival(0.0, "m1", 1.0)
    ]


@pytest.mark.parametrize(
    ("models", "one", "five"), [(87, 0.31, 0.70), (100, 0.2, 0.4), (30, 0.5, 0.8), (10, 0.31, 0.7)]
)
def test_fitted_popularity_meets_both_shares(models: int, one: float, five: float) -> None:
    found = fitted(models, one, five)
    assert len(found) == models
    assert sum(found) == pytest.approx(1)
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(one, abs=1e-3)
    assert sum(found[:5]) == pytest.approx(five, abs=1e-3)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        (Shape(models=5), "no popularity of 5 models gives the first 31% and the first five 70%"),
        (Shape(top_one=0.31, top_five=0.30), "no popularity of 87 models"),
        (Shape(models=2, zipf=1), "at most 44% of consecutive requests change model"),
        (Shape(cv=0.5), "below 1 has no bursts"),
        (Shape(run_p50=5, run_p99=4), "raise the p99"),
        (Shape(requests=0), "at least one model and one request"),
    ],
)
def test_impossible_shape_is_an_error(shape: Shape, told: str) -> None:
    with pytest.raises(ShapeError, match=told):
        generate(shape, 0)


def test_popularity_is_zipfs_when_asked() -> None:
    assert popularity(Shape(models=3, zipf=1)) == pytest.approx([6 / 11, 3 / 11, 2 / 11])


@pytest.mark.parametrize(("cache", "share"), [(0.3, 0.3), (0.001, None)])
def test_synthetic_config_is_valid(cache: float, share: float | None) -> None:
    text = synthetic_config(87, 0, cache=cache)
    assert text == synthetic_config(87, 0, cache=cache)
    fleet = fleet_of(parse_config(text, Path()))
    assert not fleet.plan.never, "the largest fits however small the cache"
    assert list(fleet.behaviours) == model_names(87)
    sizes = [takes.idle for takes in fleet.behaviours.values()]
    if share is not None:
        assert fleet.plan.budget / sum(sizes) == pytest.approx(share, abs=0.001)
    assert max(sizes) / min(sizes) > 10
    loads = [takes.load_seconds for takes in fleet.behaviours.values()]
    assert rank(loads, 0.5) == pytest.approx(23, rel=0.05)
    assert 45 < max(loads) < 80
