"""The plots of a comparison, as SVG to be put into a page."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ehub.comparison.intervals import Floats
from ehub.comparison.result import Comparison

__all__ = ["Plot", "import_matplotlib", "plots"]

FIRST, SECOND, THIRD = "#2563a8", "#d9622b", "#8a94a0"
INK, GRID = "#27313b", "#dfe4e9"
INCHES = (5.6, 3.3)
BINS = 40
POINTS_MAX = 1_000  # of each view; more would only be a blot
LINES_MAX = 120
RECALLS = {THIRD: "before: as they are", FIRST: "after: rotated"}

STYLE = {
    "svg.fonttype": "path",
    "font.size": 9.5,
    "axes.edgecolor": THIRD,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
}


# What is set is set for all of matplotlib meanwhile.
_drawing = threading.Lock()


class Plot(NamedTuple):
    """A picture with its words; in place of one that cannot be drawn `svg` is empty.

    Names are in the words and the legend (pairs of colour and name), never in the picture: there
    they would have to be drawn, for which not every font has the letters.
    """

    title: str
    text: str
    legend: tuple[tuple[str, str], ...]
    svg: str
    missing: str


def import_matplotlib() -> Any:
    """The module matplotlib, or an error that says how to get it."""
    try:
        import matplotlib
        import matplotlib.backends.backend_svg
        import matplotlib.figure
    except ImportError as error:
        raise ImportError("A report needs matplotlib: pip install 'ehub[report]'") from error
    return matplotlib


def plots(found: Comparison) -> list[Plot]:
    """All of them, in the order of a page."""
    first, second = found.names
    kept = found.details
    none = "no keys in both"
    of_both = ((FIRST, first), (SECOND, second))
    return [
        plot(
            "overlap",
            f"Neighbour overlap@{found.k}",
            f"How many of a key's {found.k} neighbours are the same in both views, and the share "
            "of keys that have so many. The line is the mean.",
            kept.overlaps is not None and (lambda figure: draw_overlaps(figure, found)),
            found.overlap.note or none,
        ),
        plot(
            "recall",
            f"Searching {second} with vectors of {first}",
            recalls_text(found),
            kept.recalls is not None and (lambda figure: draw_recalls(figure, found)),
            found.aligned_recall.note or none,
            tuple(RECALLS.items()) if kept.unmapped is not None else (),
        ),
        plot(
            "shift",
            "How far keys moved",
            "The share of keys (across) that moved at most so far (up): 1 - cosine, and Euclidean "
            "distance. Dots are the quantiles of the table, with their 95 % intervals.",
            bool(kept.cosine_shifts is not None and len(kept.cosine_shifts))
            and (lambda figure: draw_shifts(figure, found)),
            found.cosine_shift["p50"].note or none,
        ),
        plot(
            "plane",
            "Both views in one plane",
            f"Held-out keys in the two directions in which {second} varies most; {first} after the "
            "rotation. Lines join the two places of some keys.",
            kept.points is not None and (lambda figure: draw_points(figure, found)),
            found.residual.note or none,
            ((FIRST, f"{first}, rotated"), (SECOND, second)),
        ),
        plot(
            "norms",
            "Norms",
            "The lengths of the vectors, as stored.",
            min(map(len, kept.norms)) > 0 and (lambda figure: draw_norms(figure, found)),
            "a view has no rows",
            of_both,
        ),
        plot(
            "hubs",
            "Hubs",
            f"How often rows of the sample are among the {found.k} nearest of others. A long tail "
            "to the right: few rows crowd the answers; much at 0: many are never found. Dashed: "
            "the mean.",
            found.hubness.a.value is not None
            and found.hubness.b.value is not None
            and (lambda figure: draw_hubs(figure, found)),
            found.hubness.a.note or found.hubness.b.note,
            of_both,
        ),
    ]


def recalls_text(found: Comparison) -> str:
    """What the plot of the recall shows."""
    if found.details.unmapped is not None or not found.unaligned_recall.note:
        return "Recall per held-out key, before and after the rotation that align() fits."
    return (
        "Recall per held-out key, after the rotation that align() fits. Without it there is none: "
        f"{found.unaligned_recall.note}."
    )


def plot(
    name: str,
    title: str,
    text: str,
    draw: Callable[[Any], None] | bool,
    missing: str,
    legend: tuple[tuple[str, str], ...] = (),
) -> Plot:
    """Draw, if there is something to. `name` goes before ids."""
    if not callable(draw):
        return Plot(title, text, (), "", missing)
    matplotlib = import_matplotlib()
    file = io.StringIO()
    with _drawing, matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = matplotlib.figure.Figure(figsize=INCHES, layout="constrained")
        matplotlib.backends.backend_svg.FigureCanvasSVG(figure)
        draw(figure)
        # Without a date and other metadata: the same data give the same file.
        metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(file, format="svg", metadata=metadata)
    return Plot(title, text, legend, inline(file.getvalue(), name), "")


def inline(document: str, name: str) -> str:
    """The <svg> element of a file, with ids that no other plot of the page has."""
    element = document[document.index("<svg") :]
    element = re.sub(r'\bid="', f'id="{name}-', element)
    element = element.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    return element.replace("<svg ", '<svg aria-hidden="true" ', 1)


# --- one by one ---


def draw_overlaps(figure: Any, found: Comparison) -> None:
    """Bars of how many keys kept how many neighbours."""
    axes = figure.subplots()
    values = found.details.overlaps
    bars(axes, [(FIRST, values)], found.k)
    axes.axvline(found.overlap.value, color=SECOND, linewidth=1.6)
    axes.set(xlabel="share of neighbours in both", ylabel="share of keys")


def draw_recalls(figure: Any, found: Comparison) -> None:
    """Bars of the recall with the map, and without it."""
    axes = figure.subplots()
    kept = found.details
    groups = zip(RECALLS, (kept.unmapped, kept.recalls), strict=True)
    bars(axes, [(colour, values) for colour, values in groups if values is not None], found.k)
    axes.set(xlabel=f"recall@{found.k} of a key", ylabel="share of keys")


def bars(axes: Any, groups: list[tuple[str, Any]], k: int) -> None:
    """Shares of keys over 0, 1/k ... 1, side by side; many values are gathered."""
    steps = min(k, 20)
    edges = np.linspace(-0.5 / steps, 1 + 0.5 / steps, steps + 2)
    width = 0.86 / steps / len(groups)
    for place, (colour, values) in enumerate(groups):
        shares = np.histogram(values, edges)[0] / len(values)
        middles = np.arange(steps + 1) / steps + (place - (len(groups) - 1) / 2) * width
        axes.bar(middles, shares, width, color=colour)
    axes.grid(visible=False, axis="x")
    axes.set_xlim(edges[0], edges[-1])


def draw_shifts(figure: Any, found: Comparison) -> None:
    """Quantile curves of both shifts, side by side."""
    kept = found.details
    kinds = (
        ("1 - cosine", kept.cosine_shifts, found.cosine_shift),
        ("Euclidean", kept.l2_shifts, found.l2_shift),
    )
    for axes, (label, values, quantiles) in zip(figure.subplots(1, 2), kinds, strict=True):
        if values is None:
            continue
        shares = np.linspace(0, 1, 201)
        axes.plot(shares, np.quantile(values, shares), color=FIRST, linewidth=1.6)
        for name, one in quantiles.items():
            share = int(name[1:]) / 100
            axes.vlines(share, one.low, one.high, color=SECOND, linewidth=2.2)
            axes.plot([share], [one.value], "o", color=SECOND, markersize=4.5)
        axes.set(title=label, xlabel="share of keys", xticks=[0, 0.25, 0.5, 0.75, 1])
        axes.set_ylim(bottom=min(0.0, float(values.min())))


def draw_points(figure: Any, found: Comparison) -> None:
    """Both clouds, and lines between places of one key."""
    axes = figure.subplots()
    first, second = (points[:POINTS_MAX] for points in found.details.points or ())
    # The points are in the order of their keys; those joined are spread over them.
    chosen = np.linspace(0, len(first) - 1, min(LINES_MAX, len(first))).astype(np.intp)
    for one, two in zip(first[chosen], second[chosen], strict=True):
        axes.plot(*zip(one, two, strict=True), color=INK, linewidth=0.6, alpha=0.55, zorder=3)
    for points, colour in ((second, SECOND), (first, FIRST)):
        axes.scatter(
            *points.T, s=9, color=colour, alpha=0.6, linewidths=0, zorder=2, rasterized=True
        )
    shares = found.details.variance
    axes.set(
        xlabel=f"1st direction ({shares[0]:.0%} of the variance)",
        ylabel=f"2nd ({shares[1]:.0%})",
    )


def draw_norms(figure: Any, found: Comparison) -> None:
    """The lengths of both."""
    axes = figure.subplots()
    histograms(axes, found.details.norms, norm_edges(found))
    axes.set(xlabel="length", ylabel="share of rows")


def norm_edges(found: Comparison) -> Floats:
    """Bins for all lengths; where these are the same but for rounding, bins around them."""
    values = np.concatenate(found.details.norms)
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-5 * high or high == 0:
        low, high = low * 0.9 - 1e-9, high * 1.1 + 1e-9
    return np.linspace(low, high, BINS + 1)


def draw_hubs(figure: Any, found: Comparison) -> None:
    """How often rows are neighbours, in both."""
    axes = figure.subplots()
    most = int(max(counts.max() for counts in found.details.occurrences))
    step = max(1, -(-most // BINS))
    edges = np.arange(0, most + step + 1, step).astype(np.float64) - 0.5
    histograms(axes, found.details.occurrences, edges)
    axes.axvline(found.k, color=THIRD, linewidth=1.2, linestyle="--")
    axes.set(xlabel="times a neighbour", ylabel="share of rows")


def histograms(axes: Any, groups: tuple[Floats, Floats], edges: Floats) -> None:
    """The shares of the values of both views in the same bins."""
    for values, colour in zip(groups, (FIRST, SECOND), strict=True):
        shares = np.histogram(values, edges)[0] / len(values)
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.35)
        axes.stairs(shares, edges, color=colour, linewidth=1.4)
