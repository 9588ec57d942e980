"""Fitting a map from the vectors of one view to those of another, and measuring its worth."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from ehub._progress import Bar, bar
from ehub.alignment import Alignment, ViewInfo, unit_rows
from ehub.comparison.geometry import as_seen
from ehub.comparison.intervals import Floats, bootstrap, bootstrap_mean, undefined
from ehub.comparison.neighborhoods import Lists, agreement, nearest, overlap
from ehub.comparison.sampling import Plan, Sample, Side, halves, read_both
from ehub.errors import InvalidArgumentError
from ehub.estimate import Estimate
from ehub.types import Vectors

if TYPE_CHECKING:
    from ehub.view import View

__all__ = ["FIT_LEAST", "align", "fit", "recalls", "residual"]

FIT_LEAST = 4  # keys in both; half of them to measure on
HELD_OUT = 1_000
# Of `align()`: its keys, the map, true neighbours, and those that mapped vectors find.
STEPS = 4
# What the engine takes for a direction under cosine has a length in these bounds, and some more.
LENGTHS = (1e-18, 1e18)


def align(
    a: View,
    b: View,
    *,
    k: int = 10,
    sample: int = 10_000,
    seed: int = 0,
    exact: bool = False,
    names: tuple[str, str] | None = None,
    progress: bool = False,
) -> Alignment:
    """The map by which queries of the model of `a` search `b`, fitted on keys that both have.

    With a new model that has embedded part of the keys, its queries can search all of the old ones:

        new_to_old = ehub.align(new, old)
        old.nearest_neighbors(10, vector=new_query, via=new_to_old)

    It is the solution of the orthogonal Procrustes problem (Schoenemann 1966): the rotation that
    takes the vectors of `a` closest to those of `b`, from the SVD of X'Y; where the dims differ,
    the rows or columns of one. Vectors are scaled to length 1 first if either metric is "cosine"
    (those of `b` if its own is). A target under "l2" is met with a translation and a scale, too;
    under "ip" with a scale alone, so the map stays linear. A sample of several times the dims makes
    it good.

    Args:
        a: The view whose model the queries are of.
        b: The view to be searched; its dims and metric may be others.
        k: Of the recall that is measured, among all rows of `b`, with up to 1,000 held-out keys.
        sample: How many common keys to use, at most 20,000.
        seed: Which; equal seeds give equal maps for equal data.
        exact: Measure the recall by scanning.
        names: What to call `a` and `b`, if not by their own names.
        progress: Show a bar if standard error is a terminal.

    Raises:
        InvalidArgumentError: Fewer than 4 keys are in both, or their types differ.
    """
    plan = Plan(k, sample, seed, exact)
    with bar(progress, STEPS, "step", "align") as shown:
        return aligned(a, b, plan, names, shown)


def aligned(a: View, b: View, plan: Plan, names: tuple[str, str] | None, shown: Bar) -> Alignment:
    """`align()`, of which each of `STEPS` is shown."""
    k, seed, exact = plan.k, plan.seed, plan.exact
    both = read_both(a, b, plan, names)
    shown.update(1)
    if both.sampled < FIT_LEAST:
        raise InvalidArgumentError(
            f"{both.a.info.name!r:.100} and {both.b.info.name!r:.100} have {both.sampled} keys in "
            f"common; align() needs {FIT_LEAST}, and to be of use several times as many as dims"
        )
    chosen, held = halves(both.sampled, min(both.sampled // 2, HELD_OUT), seed)
    source, target = both.a.shared, both.b.shared
    alignment = fit(source.vectors[chosen], target.vectors[chosen], both.a.info, both.b.info, k)
    shown.update(1)
    if both.b.rows < k + 1:
        shown.update(STEPS - 2)
        return replace(alignment, recall=undefined(f"k = {k} needs {k + 1} rows", len(held)))
    keys = part(target, held)
    truth = nearest(b, keys.vectors, keys.keys, k, exact=exact)
    shown.update(1)
    mapped = alignment.map_rows(source.vectors[held].astype(np.float64))
    found = recalls(both.b, mapped, keys, truth, exact)
    shown.update(1)
    return replace(alignment, recall=bootstrap_mean(found, seed))


def part(sample: Sample, chosen: NDArray[np.intp]) -> Sample:
    """Some of a sample."""
    return Sample(sample.keys[chosen], sample.vectors[chosen])


# --- the map ---


def fit(x: Vectors, y: Vectors, source: ViewInfo, target: ViewInfo, k: int) -> Alignment:
    """The map that takes x, float32[n, source.dims], closest to y, float32[n, target.dims]."""
    from_rows = x.astype(np.float64)
    if "cosine" in (source.metric, target.metric):
        from_rows = unit_rows(from_rows)
    to_rows = as_seen(y, target.metric)
    from_middle, to_middle = np.zeros(source.dims), np.zeros(target.dims)
    if target.metric == "l2":
        from_middle, to_middle = from_rows.mean(axis=0), to_rows.mean(axis=0)
    rotation, trace = rotate(from_rows - from_middle, to_rows - to_middle)
    scale = 1.0
    if target.metric != "cosine":
        rotated = float((((from_rows - from_middle) @ rotation) ** 2).sum())
        scale = trace / rotated if rotated > 0 else 1.0
    matrix = scale * rotation
    return Alignment(
        source,
        target,
        matrix,
        to_middle - from_middle @ matrix,
        rank=round(float((rotation**2).sum())),  # each kept direction counts 1
        fitted=len(x),
        recall=undefined("not measured"),
        k=k,
    )


def rotate(x: Floats, y: Floats) -> tuple[Floats, float]:
    """The rotation R, or part of one, that makes tr(R'X'Y) largest, and that trace.

    Of R = UV', from X'Y = USV', the directions with a singular value of 0 are left out: any would
    do for the rows at hand, so the rows say nothing about them.
    """
    n, dims = len(x), min(x.shape[1], y.shape[1])
    if n < dims:  # X'Y has no more than n directions: find them in the n x n core
        x_basis, x_core = np.linalg.qr(x.T)
        y_basis, y_core = np.linalg.qr(y.T)
        left, values, right = np.linalg.svd(x_core @ y_core.T)
        left, right = x_basis @ left, right @ y_basis.T
    else:
        left, values, right = np.linalg.svd(x.T @ y, full_matrices=False)
    # Rounding in the product is of this order, and relative to the lengths of its factors.
    least = np.linalg.norm(x) * np.linalg.norm(y) * np.finfo(np.float64).eps * max(n, dims)
    kept = values > least
    return cast("Floats", left[:, kept] @ right[kept]), float(values[kept].sum())


# --- what it is worth ---


def residual(alignment: Alignment, x: Vectors, y: Vectors, seed: int) -> Estimate:
    """How far mapped rows stay from where they should be, relative to the size of the target.

    sqrt(sum |map(x) - y|^2 / sum |y|^2), of rows that the map was not fitted on: 0 is a perfect
    map; under cosine 1.41 is one that says nothing. Under "l2" sizes are taken from the mean. The
    interval takes the size for known.
    """
    target = as_seen(y, alignment.target.metric)
    away = ((alignment.map_rows(x.astype(np.float64)) - target) ** 2).sum(axis=1)
    if alignment.target.metric == "l2":
        target = target - target.mean(axis=0)
    sizes = (target**2).sum(axis=1)
    size = float(sizes.mean())
    if size <= 0:
        return undefined("the rows of b do not vary, so there is no measure", len(y))
    return bootstrap(len(y), lambda rows: np.sqrt(away[rows].mean(axis=1) / size), seed)


def recalls(side: Side, queries: Floats, sample: Sample, truth: Lists, exact: bool) -> Floats:
    """Per key the share of its true neighbours in a view that a vector in its place finds.

    Args:
        side: The view.
        queries: float64[n, dims]: the vectors to search with. Those that have no direction under
            cosine, or do not fit float32, find nothing.
        sample: The keys, which do not count as found.
        truth: Their neighbours.
        exact: Scan all rows.
    """
    with np.errstate(over="ignore"):
        vectors = queries.astype(np.float32)
    usable = np.isfinite(vectors).all(axis=1)
    if side.info.metric == "cosine":
        lengths = np.linalg.norm(queries, axis=1)
        usable &= (lengths > LENGTHS[0]) & (lengths < LENGTHS[1])
    places = np.flatnonzero(usable)
    found = nearest(side.view, vectors[places], sample.keys[places], truth.k, exact=exact)
    widened = replace(found, queries=len(queries), rows=places[found.rows])
    return overlap(agreement(widened, truth))
