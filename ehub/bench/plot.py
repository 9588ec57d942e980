"""The plot that people know from ann-benchmarks: recall to the right, queries/s upwards."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ehub.bench.measure import Run, pareto, points_of

__all__ = ["SUFFIXES", "can_plot", "plot"]

SUFFIXES = (".svg", ".png")
INCHES = (13, 6)
DOTS_PER_INCH = 120
MARKERS = "osv^D<>P*X"


def can_plot() -> bool:
    """Whether matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def plot(found: Run, files: list[Path]) -> None:
    """Draw each contender's front, one query a call and in batches, into each of the files."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    trial, plan = found.trial, found.plan
    figure.suptitle(
        f"{trial.name}: {len(trial.rows):,} x {trial.rows.shape[1]}, {trial.metric}, k = {plan.k}"
        + ("" if found.complete else " (interrupted)")
    )
    titles = ("one query a call, one thread", f"one call, {plan.threads} threads")
    for axes, title, batch in zip(figure.subplots(1, 2), titles, (False, True), strict=True):
        for i, outcome in enumerate(found.outcomes):
            front = pareto(points_of(outcome, batch))
            if front:
                marker = MARKERS[i % len(MARKERS)]
                axes.plot(*zip(*front, strict=True), label=outcome.name, marker=marker)
                axes.legend(loc="lower left")
        axes.set(title=title, xlabel=f"recall@{plan.k}", ylabel="queries per second", yscale="log")
        axes.grid(visible=True, which="both", alpha=0.3)
    for file in files:
        figure.savefig(file, dpi=DOTS_PER_INCH)
