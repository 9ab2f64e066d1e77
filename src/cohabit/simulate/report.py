"""What a simulation showed: for programs as data, for people as a table with one column a policy."""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import ceil
from typing import Any

from cohabit.simulate.stats import ModelTally, Tally

QUANTILES = {"p50": 0.50, "p95": 0.95, "p99": 0.99, "max": 1.0}


def report(tally: Tally, policy: str) -> dict[str, Any]:
    """Seconds and counts.

    ``wait`` is from arrival to dispatch, by model, ``wait_all`` that of all together; a model that served nothing has
    none. Background work is in ``wait_background`` instead. ``seconds`` is from the first arrival to the end of the
    last request, ``serving_share`` the part of it during which at least one request ran. ``evictions`` counts
    every worker told to leave or to sleep, by cause.
    """
    models = dict(sorted(tally.models.items()))
    seconds = tally.ended - (tally.began or 0.0)
    return {
        "policy": policy,
        "requests": sum(one.requests for one in models.values()),
        "served": sum(len(one.waits) + len(one.background_waits) for one in models.values()),
        "rejected": _summed(one.rejected for one in models.values()),
        "loads": sum(one.loads for one in models.values()),
        "load_seconds": sum(one.load_seconds for one in models.values()),
        "wakes": sum(one.wakes for one in models.values()),
        "wake_seconds": sum(one.wake_seconds for one in models.values()),
        "evictions": _summed(one.evictions for one in models.values()),
        "wait": {name: quantiles(one.waits) for name, one in models.items() if one.waits},
        "wait_all": quantiles([wait for one in models.values() for wait in one.waits]),
        "wait_background": quantiles([wait for one in models.values() for wait in one.background_waits]),
        "seconds": seconds,
        "serving_share": tally.serving_seconds / seconds if seconds > 0 else 0.0,
        "models": {name: _of_model(one) for name, one in models.items()},
    }


def _of_model(tally: ModelTally) -> dict[str, Any]:
    return {
        "requests": tally.requests,
        "served": len(tally.waits) + len(tally.background_waits),
        "rejected": dict(tally.rejected),
        "loads": tally.loads,
        "load_seconds": tally.load_seconds,
        "wakes": tally.wakes,
        "wake_seconds": tally.wake_seconds,
        "run_seconds": tally.run_seconds,
        "evictions": dict(tally.evictions),
    }


def _summed(counters: Iterable[Counter[str]]) -> dict[str, int]:
    return dict(sorted(sum(counters, Counter[str]()).items()))


def quantiles(values: Sequence[float]) -> dict[str, float] | None:
    """By nearest rank: each is a value that occurred. None without any."""
    if not values:
        return None
    ranked = sorted(values)
    return {name: ranked[max(0, ceil(share * len(ranked)) - 1)] for name, share in QUANTILES.items()}


def as_table(reports: Sequence[dict[str, Any]]) -> str:
    """All reports, which are of one trace, side by side."""
    rows = [("", *(one["policy"] for one in reports))]
    for label, key in (("requests", "requests"), ("served", "served")):
        rows.append((label, *(f"{one[key]:,}" for one in reports)))
    rows += _by_key(reports, "rejected")
    rows.append(("loads", *(f"{one['loads']:,}" for one in reports)))
    rows.append(("load seconds", *(f"{one['load_seconds']:,.1f}" for one in reports)))
    if any(one["wakes"] for one in reports):
        rows.append(("wakes", *(f"{one['wakes']:,}" for one in reports)))
        rows.append(("wake seconds", *(f"{one['wake_seconds']:,.1f}" for one in reports)))
    rows += _by_key(reports, "evictions")
    for name in QUANTILES:
        rows.append((f"wait {name}", *(_seconds((one["wait_all"] or {}).get(name)) for one in reports)))
    if any(one["wait_background"] for one in reports):
        for name in QUANTILES:
            cells = (_seconds((one["wait_background"] or {}).get(name)) for one in reports)
            rows.append((f"background {name}", *cells))
    rows.append(("seconds in all", *(f"{one['seconds']:,.1f}" for one in reports)))
    rows.append(("share serving", *(f"{one['serving_share']:.1%}" for one in reports)))
    return "\n".join([_aligned(rows), "", _aligned(_model_rows(reports))])


def _by_key(reports: Sequence[dict[str, Any]], key: str) -> list[tuple[str, ...]]:
    named = sorted({name for one in reports for name in one[key]})
    return [(f"{key}: {name}", *(f"{one[key].get(name, 0):,}" for one in reports)) for name in named]


def _model_rows(reports: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    head = [
        ("model", "requests"),
        *((f"{one['policy']}: loads", *(f"wait {q}" for q in QUANTILES)) for one in reports),
    ]
    rows = [tuple(cell for part in head for cell in part)]
    busiest = sorted(reports[0]["models"], key=lambda name: (-reports[0]["models"][name]["requests"], name))
    for name in busiest:
        cells = [name, f"{reports[0]['models'][name]['requests']:,}"]
        for one in reports:
            cells.append(f"{one['models'][name]['loads']:,}")
            cells += (_seconds(one["wait"].get(name, {}).get(q)) for q in QUANTILES)
        rows.append(tuple(cells))
    return rows


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:,.2f}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
