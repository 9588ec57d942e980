"""Comparing two views, figure by figure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ehub._progress import Bar, bar
from ehub.comparison.fitting import FIT_LEAST, fit, part, recalls, residual
from ehub.comparison.geometry import as_seen, centroid_shift, cka, plane, shift
from ehub.comparison.health import anisotropy, hubness, near_duplicates, norms, occurrences
from ehub.comparison.intervals import (
    Floats,
    bootstrap_mean,
    counted,
    kolmogorov_smirnov,
    normal_mean,
    quantile,
    undefined,
)
from ehub.comparison.neighborhoods import (
    Lists,
    agreement,
    nearest,
    overlap,
    rank_biased_overlap,
)
from ehub.comparison.result import Comparison, Details, Mover, Pair, top_movers
from ehub.comparison.sampling import Both, Plan, Side, halves, read_both
from ehub.estimate import Estimate

if TYPE_CHECKING:
    from ehub.view import View

__all__ = ["STEPS", "compare", "compared", "drift", "drifted"]

# Of a comparison: its keys, their neighbours, the map, and all figures.
STEPS = 4

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def compare(
    a: View,
    b: View,
    *,
    k: int = 10,
    sample: int = 2_000,
    seed: int = 0,
    exact: bool = False,
    names: tuple[str, str] | None = None,
    progress: bool = False,
) -> Comparison:
    """How two views of the same keys differ: spaces, versions, snapshots, partitions.

    `print()` it, or write a page with plots by its `report(path)`. Dims and metrics may differ;
    what then makes no sense has no value and says why, as do figures that need more keys than there
    are. The figures look at `sample` keys; their neighbours are found through the index, among all
    keys that both views have, so views of millions of rows take seconds. Equal data and seed give
    equal figures, in whatever order rows were written (where the index finds all: see `exact`).

    Args:
        a: The first view.
        b: The second; its keys must be of the same type.
        k: How many neighbours count, at most 1,000.
        sample: How many keys to look at, at most 20,000.
        seed: Which of them, and which resamples the intervals are made of.
        exact: Scan all rows, so that neighbours which the index misses count for nothing.
        names: What to call `a` and `b`, if not by their own names.
        progress: Show a bar if standard error is a terminal.
    """
    plan = Plan(k, sample, seed, exact)
    with bar(progress, STEPS, "step", "compare") as shown:
        return compared(a, b, plan, names, shown)


def compared(a: View, b: View, plan: Plan, names: tuple[str, str] | None, shown: Bar) -> Comparison:
    """`compare()`, of which each of `STEPS` is shown."""
    both = read_both(a, b, plan, names)
    shown.update(1)
    neighbors = Neighborhoods.of(both, plan)
    shown.update(1)
    mapped = Mapped.of(both, neighbors, plan)
    shown.update(1)
    found = assemble(both, neighbors, mapped, plan)
    shown.update(1)
    return found


def drift(
    baseline: View,
    now: View,
    *,
    k: int = 10,
    sample: int = 2_000,
    seed: int = 0,
    exact: bool = False,
    names: tuple[str, str] | None = None,
    progress: bool = False,
) -> Comparison:
    """How a view has moved since its baseline: `compare(baseline, now)` in the words of drift.

    The result's `added` and `removed` count the keys that came and went.
    """
    with bar(progress, STEPS, "step", "drift") as shown:
        return drifted(baseline, now, Plan(k, sample, seed, exact), names, shown)


def drifted(
    baseline: View, now: View, plan: Plan, names: tuple[str, str] | None, shown: Bar
) -> Comparison:
    """`drift()`, of which each of `STEPS` is shown."""
    return replace(compared(baseline, now, plan, names, shown), kind="drift")


# --- neighbours ---


@dataclass(frozen=True, slots=True, eq=False)
class Neighborhoods:
    """The neighbours of the sampled keys.

    Attributes:
        a: In a, among the keys of both.
        b: In b, among the keys of both.
        overlaps: Per key, how much of them is the same; None where there are too few keys.
        ranked: And by rank-biased overlap.
        note: Why there are none.
    """

    a: Lists
    b: Lists
    overlaps: Floats | None
    ranked: Floats | None
    note: str

    @classmethod
    def of(cls, both: Both, plan: Plan) -> Neighborhoods:
        """Search both views."""
        lists = [
            nearest(
                side.view,
                side.shared.vectors,
                side.shared.keys,
                plan.k,
                among=side.among,
                exact=plan.exact,
            )
            for side in (both.a, both.b)
        ]
        if both.common < plan.k + 1 or both.sampled == 0:
            note = f"{both.common} keys in both; k = {plan.k} needs {plan.k + 1}"
            return cls(lists[0], lists[1], None, None, note)
        common = agreement(*lists)
        return cls(lists[0], lists[1], overlap(common), rank_biased_overlap(common), "")

    def among_all(self, side: Side, found: Lists, plan: Plan) -> Lists:
        """The neighbours of a view's own sample among all its rows."""
        if side.among is None:
            return found
        return nearest(side.view, side.own.vectors, side.own.keys, plan.k, exact=plan.exact)


# --- the map from a to b ---


@dataclass(frozen=True, slots=True, eq=False)
class Mapped:
    """A map fitted on one half of the sample, and what it does to the other.

    Attributes:
        residual: Of the map.
        recalls: Per held-out key, or None.
        unmapped: The same without the map, or None.
        notes: Why there are none, of each.
        points: What to draw.
        variance: Of b in these directions.
    """

    residual: Estimate
    recalls: Floats | None
    unmapped: Floats | None
    notes: tuple[str, str]
    points: tuple[Floats, Floats] | None
    variance: Floats

    @classmethod
    def of(cls, both: Both, neighbors: Neighborhoods, plan: Plan) -> Mapped:
        """Fit, map and search."""
        if both.sampled < FIT_LEAST:
            note = f"{both.sampled} keys in both; needs {FIT_LEAST}"
            return cls(undefined(note, 0), None, None, (note, note), None, np.zeros(2))
        chosen, held = halves(both.sampled, both.sampled // 2, plan.seed)
        x, y = both.a.shared.vectors, both.b.shared.vectors
        alignment = fit(x[chosen], y[chosen], both.a.info, both.b.info, plan.k)
        left = residual(alignment, x[held], y[held], plan.seed)
        mapped = alignment.map_rows(x[held].astype(np.float64))
        first, second, variance = plane(mapped, as_seen(y[held], both.b.info.metric))
        found, plain, notes = search_mapped(both, neighbors, plan, held, mapped)
        return cls(left, found, plain, notes, (first, second), variance)


def search_mapped(
    both: Both, neighbors: Neighborhoods, plan: Plan, held: NDArray[np.intp], mapped: Floats
) -> tuple[Floats | None, Floats | None, tuple[str, str]]:
    """The recall of a's vectors in b, with the map and without it, per held-out key."""
    side = both.b
    if side.rows < plan.k + 1:
        note = f"{side.info.name!r} has {side.rows} rows; k = {plan.k} needs {plan.k + 1}"
        return None, None, (note, note)
    keys = part(side.shared, held)
    if side.among is None:
        truth = neighbors.b.take(held)
    else:
        truth = nearest(side.view, keys.vectors, keys.keys, plan.k, exact=plan.exact)
    found = recalls(side, mapped, keys, truth, plan.exact)
    if both.a.info.dims != side.info.dims:
        return found, None, ("", dims_differ(both))
    plain = both.a.shared.vectors[held].astype(np.float64)
    return found, recalls(side, plain, keys, truth, plan.exact), ("", "")


def dims_differ(both: Both) -> str:
    """Why vectors of the two cannot be compared as they are."""
    return f"dims differ: {both.a.info.dims} and {both.b.info.dims}"


# --- all figures ---


def assemble(both: Both, neighbors: Neighborhoods, mapped: Mapped, plan: Plan) -> Comparison:
    """The result."""
    a, b = both.a, both.b
    lengths = norms(a.own), norms(b.own)
    ks, p_value = compare_norms(*lengths)
    counts = [occurrences(side.own, side.info.metric, plan.k) for side in (a, b)]
    hubs = [hubness(one, plan.k, plan.seed) for one in counts]
    twins = [
        near_duplicates(side, neighbors.among_all(side, found, plan))
        for side, found in ((a, neighbors.a), (b, neighbors.b))
    ]
    moved = Moved.of(both, neighbors.overlaps)
    seed = plan.seed
    return Comparison(
        kind="comparison",
        a=a.info,
        b=b.info,
        rows=(a.rows, b.rows),
        key_type=both.key_type,
        k=plan.k,
        sample=plan.sample,
        sampled=both.sampled,
        seed=seed,
        exact=plan.exact,
        common=both.common,
        coverage=Pair(counted(both.common, a.rows), counted(both.common, b.rows)),
        overlap=mean(neighbors.overlaps, seed, neighbors.note),
        rbo=mean(neighbors.ranked, seed, neighbors.note),
        cka=cka(as_seen(a.shared.vectors, a.info.metric), as_seen(b.shared.vectors, b.info.metric)),
        residual=mapped.residual,
        aligned_recall=mean(mapped.recalls, seed, mapped.notes[0]),
        unaligned_recall=mean(mapped.unmapped, seed, mapped.notes[1]),
        cosine_shift=quantiles(moved.cosine, moved.note),
        l2_shift=quantiles(moved.l2, "" if moved.l2 is not None else moved.note),
        centroid_shift=moved.centroid,
        norms=Pair(normal_mean(lengths[0]), normal_mean(lengths[1])),
        norm_ks=ks,
        norm_p_value=p_value,
        hubness=Pair(hubs[0][0], hubs[1][0]),
        antihubs=Pair(hubs[0][1], hubs[1][1]),
        duplicates=Pair(twins[0], twins[1]),
        anisotropy=Pair(anisotropy(a.own), anisotropy(b.own)),
        movers=moved.movers,
        details=Details(
            neighbors.overlaps,
            mapped.recalls,
            mapped.unmapped,
            moved.cosine,
            moved.l2,
            lengths,
            (counts[0], counts[1]),
            mapped.points,
            mapped.variance,
        ),
    )


def mean(values: Floats | None, seed: int, note: str) -> Estimate:
    """The mean of values per key, if there are any."""
    return undefined(note) if values is None else bootstrap_mean(values, seed)


def compare_norms(a: Floats, b: Floats) -> tuple[Estimate, float | None]:
    """Whether lengths are distributed alike."""
    if len(a) == 0 or len(b) == 0:
        return undefined("a view has no rows"), None
    return kolmogorov_smirnov(a, b)


def quantiles(values: Floats | None, note: str) -> dict[str, Estimate]:
    """The quantiles of a shift."""
    missing = values is None or len(values) == 0
    return {
        f"p{share * 100:.0f}": undefined(note or "no keys with a direction in both")
        if values is None or missing
        else quantile(values, share, note)
        for share in QUANTILES
    }


@dataclass(frozen=True, slots=True, eq=False)
class Moved:
    """How far the vectors of the sampled keys moved, where dims agree."""

    cosine: Floats | None
    l2: Floats | None
    note: str
    centroid: Estimate
    movers: tuple[Mover, ...]

    @classmethod
    def of(cls, both: Both, overlaps: Floats | None) -> Moved:
        """Measure."""
        a, b = both.a, both.b
        if a.info.dims != b.info.dims:
            note = dims_differ(both)
            return cls(None, None, note, undefined(note), ())
        centroid = centroid_shift(a.own, b.own, a.info.metric, b.info.metric)
        if both.sampled == 0:
            return cls(None, None, "no keys in both", centroid, ())
        x, y = (side.shared.vectors.astype(np.float64) for side in (a, b))
        cosine, l2 = shift(x, y)
        usable = (x.any(axis=1)) & (y.any(axis=1))
        zeros = both.sampled - int(usable.sum())
        note = f"{zeros:,} keys with a zero vector left out" if zeros else ""
        movers = top_movers(
            a.shared.keys[usable], cosine, None if overlaps is None else overlaps[usable]
        )
        return cls(cosine, l2, note, centroid, movers)
