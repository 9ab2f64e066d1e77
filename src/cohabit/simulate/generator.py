"""Seeded traces that look like real ones: few popular models, bursts, a model change at most requests.

The defaults are the shape of a real trace of 87 models: the most popular has 31 % of the requests and the five most
popular 70 %, 75 % of consecutive requests change model, gaps have a coefficient of variation of 12, runs take 23 s
(p50) to 106 s (p99) and loads 23 s to 52 s.

Draws are stratified, so that a short trace has the asked-for properties too and not only the mean of many.
"""

from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import exp, log, log1p, sqrt
from random import Random
from statistics import NormalDist

from cohabit.simulate.traces import Arrival

P99 = NormalDist().inv_cdf(0.99)
SMALLEST, LARGEST = 1 << 10, 16 << 10  # MiB idle; the logarithms are uniform between
ACTIVATION = 0.1  # of the idle size
LOAD_P50, LOAD_P99 = 23.0, 52.0  # seconds


class ShapeError(ValueError):
    """No trace has all of these properties. One line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a trace is to look like. Times in seconds."""

    models: int = 87
    requests: int = 10_000
    seconds: float | None = None  # from the first to the last; None: such that ``demand`` holds
    demand: float = 0.5  # mean number of requests that would run at any time, if none ever waited
    zipf: float | None = None  # exponent of the popularity; None: fitted to the two shares
    top_one: float = 0.31
    top_five: float = 0.70
    changes: float = 0.75  # share of consecutive requests that are for different models
    cv: float = 12.0  # of the gaps between arrivals
    run_p50: float = 23.0
    run_p99: float = 106.0


def generate(shape: Shape, seed: int) -> list[Arrival]:
    """The same for the same shape and seed. Raises ShapeError."""
    if shape.models < 1 or shape.requests < 1:
        raise ShapeError("at least one model and one request are needed")
    if shape.run_p99 < shape.run_p50:
        raise ShapeError("one run in a hundred cannot be shorter than half of them; raise the p99 of the runs")
    models = _models(shape, Random(f"models {seed}"))
    times = _times(shape, Random(f"times {seed}"))
    runs = [
        round(lognormal(u, shape.run_p50, shape.run_p99), 6)
        for u in stratified(shape.requests, Random(f"runs {seed}"))
    ]
    names = model_names(shape.models)
    return [Arrival(at, names[model], run) for at, model, run in zip(times, models, runs, strict=True)]


def model_names(count: int) -> list[str]:
    """By popularity, the most popular first."""
    return [f"m{rank:0{len(str(count))}}" for rank in range(1, count + 1)]


def stratified(count: int, random: Random) -> list[float]:
    """Numbers between 0 and 1, one from each of ``count`` equal parts, in random order."""
    drawn = [(place + random.random()) / count for place in range(count)]
    random.shuffle(drawn)
    return drawn


def lognormal(u: float, p50: float, p99: float) -> float:
    """The value below which the share ``u`` of a distribution with these quantiles lies."""
    return p50 * exp(NormalDist().inv_cdf(u) / P99 * log(p99 / p50)) if p50 > 0 else 0.0


def popularity(shape: Shape) -> list[float]:
    """Each model's share of the requests, the largest first. Raises ShapeError."""
    if shape.zipf is not None:
        return _zipf_mandelbrot(shape.models, shape.zipf, 0.0)
    return fitted(shape.models, shape.top_one, shape.top_five)


def fitted(models: int, top_one: float, top_five: float) -> list[float]:
    """Zipf and Mandelbrot's law 1 / (rank + q) ** s with these shares of the first and the first five."""

    def steepest(q: float) -> list[float]:
        s = _solved(lambda s: _zipf_mandelbrot(models, s, q)[0] - top_one, 0.0, 400.0)
        return _zipf_mandelbrot(models, s, q)

    # The larger q, the flatter the head beside the first, and the steeper what follows.
    q = exp(_solved(lambda x: sum(steepest(exp(x) - 1)[:5]) - top_five, log(1e-3), log(1e3))) - 1
    shares = steepest(q)
    if abs(shares[0] - top_one) > 1e-3 or abs(sum(shares[:5]) - top_five) > 1e-3:
        raise ShapeError(
            f"no popularity of {models} models gives the first {top_one:.0%} and the first five {top_five:.0%}; "
            f"give a Zipf exponent instead"
        )
    return shares


def _zipf_mandelbrot(models: int, s: float, q: float) -> list[float]:
    weights = [((1 + q) / (rank + q)) ** s for rank in range(1, models + 1)]
    whole = sum(weights)
    return [weight / whole for weight in weights]


def _solved(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function is zero, or the end nearest to that."""
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return (low + high) / 2


def _models(shape: Shape, random: Random) -> Iterator[int]:
    """Independent draws would change model more often than asked for, so some repeat the one before."""
    shares = popularity(shape)
    most = 1 - sum(share * share for share in shares)
    if shape.changes > most:
        raise ShapeError(f"with this popularity at most {most:.0%} of consecutive requests change model")
    again = 1 - shape.changes / most if most > 0 else 0.0
    bounds = list(accumulate(shares))
    draws = _ranked(stratified(shape.requests, random), bounds)
    repeats = stratified(shape.requests, random)
    model = draws[0]
    for draw, repeat in zip(draws, repeats, strict=True):
        model = model if repeat < again else draw
        yield model


def _ranked(draws: Sequence[float], bounds: Sequence[float]) -> list[int]:
    last = len(bounds) - 1
    return [min(bisect(bounds, draw), last) for draw in draws]


def _times(shape: Shape, random: Random) -> list[float]:
    """A hyperexponential with balanced means (Whitt 1982): bursts at about twice the mean rate, then long pauses."""
    if shape.cv < 1:
        raise ShapeError("a coefficient of variation below 1 has no bursts; give 1 or more")
    squared = shape.cv**2
    short = (1 + sqrt((squared - 1) / (squared + 1))) / 2

    def gap(u: float) -> float:
        share, rest = (short, u / short) if u < short else (1 - short, (u - short) / (1 - short))
        return -log1p(-min(rest, 1 - 1e-12)) / (2 * share)

    ends = [0.0, *accumulate(gap(u) for u in stratified(shape.requests - 1, random))] if shape.requests > 1 else [0.0]
    if shape.seconds is not None:
        whole = shape.seconds
    else:
        mean_run = (
            shape.run_p50 * exp((log(shape.run_p99 / shape.run_p50) / P99) ** 2 / 2) if shape.run_p50 > 0 else 1.0
        )
        whole = shape.requests * mean_run / shape.demand
    scale = whole / ends[-1] if ends[-1] > 0 else 0.0
    return [round(end * scale, 6) for end in ends]


def synthetic_config(models: int, seed: int, *, cache: float) -> str:
    """A config that goes with a generated trace, as YAML: models of varied sizes and load seconds.

    ``cache`` is the share of all models' bytes that the budget holds, or of as many as the
    largest needs.
    """
    random = Random(f"models of {seed}")
    sizes = [round(SMALLEST * (LARGEST / SMALLEST) ** u) for u in stratified(models, random)]
    loads = [lognormal(u, LOAD_P50, LOAD_P99) for u in stratified(models, random)]
    activation = [round(size * ACTIVATION) for size in sizes]
    budget = max(round(cache * sum(sizes)), *map(sum, zip(sizes, activation, strict=True)))
    lines = [
        f"# Invented by `cohabit simulate --generate --seed {seed}`: {models} models of {sum(sizes):,} MiB together.",
        f"device: {{kind: cpu, budget: {budget}MiB, keep_free: 0, compute_slots: 3}}",
        "models:",
    ]
    for name, size, extra, load in zip(model_names(models), sizes, activation, loads, strict=True):
        footprint = f"{{idle: {size}MiB, inference: {size + extra}MiB, load: {size}MiB}}"
        lines.append(f"  {name}: {{engine: fake, options: {{load_seconds: {load:.2f}}}, footprint: {footprint}}}")
    return "\n".join(lines) + "\n"
