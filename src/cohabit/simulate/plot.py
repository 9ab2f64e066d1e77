"""Draws a timeline: a row a model, what it does as bars, a thin line above where requests wait for it."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from matplotlib import use
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cohabit.simulate.timeline import Doing, Span, TimelineRow

# Later ones are drawn over earlier ones: what is short and matters must not vanish. They suit the colour-blind.
COLOURS = {
    Doing.IDLE: "#d0d0d0",
    Doing.ASLEEP: "#b9d7f0",
    Doing.LEAVING: "#777777",
    Doing.WAKING: "#f6c85f",
    Doing.LOADING: "#e66100",
    Doing.SERVING: "#1b7f3b",
}
WAITING = "#b00058"
WIDTH, ROW, MARGINS = 16.0, 0.24, 1.6  # inches
DOTS = 2400  # across; what is closer together cannot be told apart
UNITS = (
    (2 * 86_400.0, 86_400.0, "days"),
    (2 * 3_600.0, 3_600.0, "hours"),
    (240.0, 60.0, "minutes"),
    (0.0, 1.0, "seconds"),
)


def draw(rows: Mapping[str, TimelineRow], ended: float, path: Path, title: str) -> None:
    """As PNG or SVG, as the name of the file says. Raises OSError."""
    use("agg")
    figure = Figure(figsize=(WIDTH, MARGINS + ROW * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    unit, unit_name = next((size, name) for least, size, name in UNITS if ended >= least)
    dot = max(ended, 1e-9) / DOTS
    for place, row in enumerate(rows.values()):
        for doing, colour in COLOURS.items():
            top = place - 0.12 if doing is Doing.SERVING else place - 0.3  # a short load shows above what it is for
            _draw_bars(axes, bars(row.spans[doing], dot, unit), (top, place + 0.38 - top), colour)
        _draw_bars(axes, bars(row.waiting, dot, unit), (place - 0.45, 0.13), WAITING)
    axes.set_xlim(0, max(ended, 1e-9) / unit)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.invert_yaxis()
    axes.set_yticks(range(len(rows)), list(rows), fontsize=8)
    axes.set_xlabel(unit_name)
    axes.tick_params(axis="x", top=True, labeltop=len(rows) > 30)
    axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)
    axes.set_title(title, fontsize=10, loc="left")
    used = [doing for doing in Doing if any(row.spans[doing] for row in rows.values())]
    keys = [Patch(color=COLOURS[doing], label=doing.value) for doing in used]
    figure.legend(
        handles=[*keys, Patch(color=WAITING, label="requests wait")],
        loc="outside upper right",
        ncols=len(keys) + 1,
        fontsize=8,
        frameon=False,
    )
    figure.savefig(path, dpi=DOTS / WIDTH)


def _draw_bars(axes: Axes, made: list[tuple[float, float]], height: tuple[float, float], colour: str) -> None:
    if made:
        axes.broken_barh(made, height, facecolors=colour, linewidth=0)


def bars(spans: Iterable[Span], dot: float, unit: float = 1.0) -> list[tuple[float, float]]:
    """Begin and width of spans in order, none thinner than a dot, those closer together than that made one.

    Thirty thousand of them would make a picture of many megabytes that shows no more.
    """
    made: list[tuple[float, float]] = []
    for span in spans:
        end = max(span.end, span.begin + dot)
        if made and span.begin - made[-1][1] < dot:
            made[-1] = (made[-1][0], max(end, made[-1][1]))
        else:
            made.append((span.begin, end))
    return [(begin / unit, (end - begin) / unit) for begin, end in made]
