"""Figures of one view alone: hubs, near-duplicates, how much all rows point the same way, norms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ehub.alignment import unit_rows
from ehub.comparison.geometry import as_seen
from ehub.comparison.intervals import Floats, bootstrap, jackknife, undefined, wilson
from ehub.comparison.neighborhoods import Lists
from ehub.comparison.sampling import Sample, Side
from ehub.estimate import Estimate
from ehub.types import Metric

__all__ = ["NEAR", "anisotropy", "hubness", "near_duplicates", "norms", "occurrences"]

# Rows are near-duplicates whose cosine is at least 0.999, or, as it is the same for rows of one
# length, whose squared distance is at most 0.002 of the row's squared length.
NEAR = 1e-3
BLOCK_ROWS = 512


def norms(sample: Sample) -> Floats:
    """The length of each row as it is stored."""
    lengths: Floats = np.linalg.norm(sample.vectors.astype(np.float64), axis=1)
    return lengths


# --- hubs ---


def hubness(counts: Floats, k: int, seed: int) -> tuple[Estimate, Estimate]:
    """The skewness of how often rows are neighbours, and the share of rows that never are.

    Radovanovic, Nanopoulos and Ivanovic, "Hubs in space" (2010). The skewness is 0 where all rows
    are neighbours equally often. The bootstrap takes the counts as given.
    """
    n = len(counts)
    if n < k + 1:
        note = f"k = {k} needs {k + 1} rows"
        return undefined(note, n), undefined(note, n)
    anti = (counts == 0).astype(np.float64)
    return (
        bootstrap(n, lambda chosen: skewness(counts[chosen]), seed),
        bootstrap(n, lambda chosen: anti[chosen].mean(axis=1), seed),
    )


def occurrences(sample: Sample, metric: Metric, k: int) -> Floats:
    """N_k of each row: the number of rows among whose k nearest it is. float64[n].

    The neighbours are looked for within the sample, exactly, so the counts depend on its size; they
    compare views of which equally many rows were sampled. Of rows at the same distance the one with
    the smaller key is nearer. Where there are no k others, all are neighbours.
    """
    rows = as_seen(sample.vectors, metric)
    n = len(rows)
    if n < k + 1:
        return np.full(n, max(0.0, n - 1.0))
    squares = np.einsum("ij,ij->i", rows, rows)
    counts = np.zeros(n)
    for begin in range(0, n, BLOCK_ROWS):
        block = slice(begin, min(n, begin + BLOCK_ROWS))
        distances = -(rows[block] @ rows.T)
        if metric == "l2":
            distances = squares + 2 * distances  # less the query's square, the same for all
        distances[np.arange(len(distances)), np.arange(block.start, block.stop)] = np.inf
        counts += chosen_nearest(distances, k).sum(axis=0)
    return counts


def chosen_nearest(distances: Floats, k: int) -> NDArray[np.bool_]:
    """Which k columns of each row are smallest; of equal ones the first."""
    limits = np.partition(distances, k - 1, axis=1)[:, k - 1 : k]
    nearer, equal = distances < limits, distances == limits
    missing = k - nearer.sum(axis=1, keepdims=True)
    chosen: NDArray[np.bool_] = nearer | (equal & (np.cumsum(equal, axis=1) <= missing))
    return chosen


def skewness(counts: Floats) -> Floats:
    """The third standardised moment of each row; 0 where all of it is the same."""
    away = counts - counts.mean(axis=1, keepdims=True)
    squares = away**2
    third = (squares * away).mean(axis=1)
    variance = squares.mean(axis=1)
    skew: Floats = np.divide(third, variance**1.5, out=np.zeros_like(third), where=variance > 0)
    return skew


# --- duplicates ---


def near_duplicates(side: Side, lists: Lists) -> Estimate:
    """The share of sampled rows that have another row of the view next to them.

    `lists` are the neighbours of the sample among all rows. Under "ip" a near row need not be among
    the neighbours with the largest products, so there the figure is a lower bound.
    """
    n = len(side.own.keys)
    if side.rows < 2:
        return undefined("needs 2 rows", n)
    squares = norms(side.own) ** 2
    if side.info.metric == "ip":
        near = near_by_vectors(side, lists, squares)
        note = "a lower bound: only the neighbours by product were looked at"
        return wilson(int(near.sum()), n, note)
    limits = np.full(n, NEAR) if side.info.metric == "cosine" else 2 * NEAR * squares
    first = lists.ranks == 0
    near = np.zeros(n, np.bool_)
    near[lists.rows[first]] = lists.distances[first] <= limits[lists.rows[first]]
    return wilson(int(near.sum()), n)


def near_by_vectors(side: Side, lists: Lists, squares: Floats) -> NDArray[np.bool_]:
    """Which sampled rows have one of their listed neighbours next to them, by its vector."""
    near = np.zeros(len(squares), np.bool_)
    for rank in range(lists.k):
        places = np.flatnonzero(lists.ranks == rank)
        vectors, found = side.view.multiget(lists.keys[places], default=None)
        rows = lists.rows[places]
        away = side.own.vectors[rows].astype(np.float64) - vectors
        close = np.einsum("ij,ij->i", away, away) <= 2 * NEAR * squares[rows]
        near[rows[found & close]] = True
    return near


# --- directions ---


def anisotropy(sample: Sample) -> Estimate:
    """The mean cosine of two random rows: 0 where rows point everywhere, near 1 in a narrow cone.

    Ethayarajh, "How contextual are contextualized word representations?" (2019); here the mean over
    all pairs of the sample. Rows of length 0 are left out.
    """
    rows = sample.vectors.astype(np.float64)
    units = unit_rows(rows[rows.any(axis=1)])
    n, zeros = len(units), len(rows) - len(units)
    note = f"{zeros:,} zero vectors left out" if zeros else ""
    if n < 3:
        return undefined("needs 3 rows that are not zero", n)
    total = units.sum(axis=0)
    square = float(total @ total)
    without = square - 2 * (units @ total) + 1 - (n - 1)
    return jackknife((square - n) / (n * (n - 1)), without / ((n - 1) * (n - 2)), note, most=1.0)
