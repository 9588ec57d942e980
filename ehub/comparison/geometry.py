"""How alike two sets of rows are that belong together, as clouds of points: CKA, centroids, PCA.

Rows are float64[n, dims], as their metric sees them (`as_seen`); row i of both belongs to one key.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ehub.alignment import unit_rows
from ehub.comparison.intervals import Floats, jackknife, undefined
from ehub.comparison.sampling import Sample
from ehub.estimate import Estimate
from ehub.types import Metric, Vectors

__all__ = ["Plane", "as_seen", "centroid_shift", "cka", "plane", "plane_of", "shift"]

CKA_LEAST = 5  # the estimator needs 4, and the jackknife one more
CENTROID_LEAST = 3  # the estimator needs 2
NO_SHARE = 1e-12


def as_seen(rows: Vectors, metric: Metric) -> Floats:
    """Rows in float64; under cosine their length means nothing and is made 1."""
    wide = rows.astype(np.float64)
    return unit_rows(wide) if metric == "cosine" else wide


# --- centred kernel alignment ---


def cka(x: Floats, y: Floats) -> Estimate:
    """Linear centred kernel alignment: 1 where one is the other rotated, 0 where unrelated.

    Kornblith et al., "Similarity of neural network representations revisited" (2019), with the
    unbiased estimator of Song et al. ("Feature selection via dependence maximization", 2012) in
    place of the plain one, which tends to 1 as the dims exceed the keys. It may be a bit below 0.
    """
    n = len(x)
    if n < CKA_LEAST:
        return undefined(f"needs {CKA_LEAST} keys", n)
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    both, both_left_out = dependence(x, y)
    of_x, x_left_out = dependence(x, x)
    of_y, y_left_out = dependence(y, y)
    norms, norms_left_out = of_x * of_y, x_left_out * y_left_out
    if min(of_x, of_y) <= 0 or norms == 0:
        return undefined("the rows of one view hardly vary", n)
    value = both / math.sqrt(norms)
    if min(x_left_out.min(), y_left_out.min()) <= 0 or norms_left_out.min() == 0:
        note = "no interval: one key makes up all the variation of a view"
        return Estimate(min(1.0, value), None, None, n, "", note)
    # Rounding may put it above 1.
    return jackknife(min(1.0, value), both_left_out / np.sqrt(norms_left_out), most=1.0)


def dependence(x: Floats, y: Floats) -> tuple[float, Floats]:
    """The unbiased HSIC of two linear kernels, and what it is without each of the rows.

    With the kernels' diagonals set to 0, K and L, it is (tr(KL) + 1'K1 1'L1 / ((n - 1)(n - 2))
    - 2 1'KL1 / (n - 2)) / (n (n - 3)). All of it is computed in the space of the dims, in
    O(n dims^2), and so is what leaving out a row takes away.
    """
    n = len(x)
    cross = x.T @ y
    x_diagonal, y_diagonal = np.einsum("ij,ij->i", x, x), np.einsum("ij,ij->i", y, y)
    x_sums, y_sums = x @ x.sum(axis=0) - x_diagonal, y @ y.sum(axis=0) - y_diagonal
    x_total, y_total = x_sums.sum(), y_sums.sum()
    traces = np.einsum("ij,ij->i", x @ cross, y) - x_diagonal * y_diagonal
    products = x_sums @ y_sums
    lost = (
        x_sums * y_sums
        + (x @ (x.T @ y_sums) - x_diagonal * y_sums)
        + (y @ (y.T @ x_sums) - y_diagonal * x_sums)
        - traces
    )
    value = unbiased(n, traces.sum(), x_total, y_total, products)
    left_out = unbiased(
        n - 1,
        traces.sum() - 2 * traces,
        x_total - 2 * x_sums,
        y_total - 2 * y_sums,
        products - lost,
    )
    return float(value), left_out


def unbiased(n: int, trace: Floats, x_total: Floats, y_total: Floats, products: Floats) -> Floats:
    """Song's estimator from its parts."""
    pairs = trace + x_total * y_total / ((n - 1) * (n - 2)) - 2 * products / (n - 2)
    return pairs / (n * (n - 3))


# --- where rows went ---


def shift(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Per key how far it moved: 1 - cosine (of those that are not zero), and Euclidean."""
    lengths = np.linalg.norm(x, axis=1) * np.linalg.norm(y, axis=1)
    with_direction = lengths > 0
    products = np.einsum("ij,ij->i", x[with_direction], y[with_direction])
    cosines = np.clip(products / lengths[with_direction], -1, 1)
    cosines[(x == y).all(axis=1)[with_direction]] = 1  # rounding would say that they moved
    return 1 - cosines, np.linalg.norm(x - y, axis=1)


def centroid_shift(a: Sample, b: Sample, a_metric: Metric, b_metric: Metric) -> Estimate:
    """How far apart the means of two views are, in spreads of the first.

    The squared distance of the means is estimated without bias from pairs of different keys (the
    linear case of Gretton et al., "A kernel two-sample test", 2012), so it is 0 on average where
    nothing moved; what falls below 0 is cut off. A spread is the root mean square distance of the
    rows of a from their mean, which is taken as known.
    """
    x, y = by_key(a, b, a_metric, b_metric)
    if min(x.there.sum(), y.there.sum()) < CENTROID_LEAST:
        return undefined(f"needs {CENTROID_LEAST} rows of each", len(x.there))
    rows = x.rows[x.there]
    spread = math.sqrt(float(((rows - rows.mean(axis=0)) ** 2).sum(axis=1).mean()))
    if spread == 0:
        return undefined("the rows of a do not vary, so there is no measure", len(x.there))
    found = jackknife(*squared_distance_of_means(x, y))
    value, low, high = (
        math.sqrt(max(0.0, square or 0.0)) / spread
        for square in (found.value, found.low, found.high)
    )
    return Estimate(value, low, high, found.n, found.interval)


class Placed(NamedTuple):
    """Rows by the keys of two samples, zeros where this one has none, and which it has."""

    rows: Floats
    there: NDArray[np.bool_]


def by_key(a: Sample, b: Sample, a_metric: Metric, b_metric: Metric) -> tuple[Placed, Placed]:
    """Two samples, brought into the order of the keys that one of them has."""
    keys, places = np.unique(np.concatenate([a.keys, b.keys]), return_inverse=True)

    def placed(sample: Sample, at: NDArray[np.intp], metric: Metric) -> Placed:
        rows = np.zeros((len(keys), sample.vectors.shape[1]))
        rows[at] = as_seen(sample.vectors, metric)
        there = np.zeros(len(keys), np.bool_)
        there[at] = True
        return Placed(rows, there)

    parted = len(a.keys)
    return placed(a, places[:parted], a_metric), placed(b, places[parted:], b_metric)


def squared_distance_of_means(a: Placed, b: Placed) -> tuple[float, Floats]:
    """|E x - E y|^2 over pairs of different keys, and what it is without each of the keys."""
    x, y, shared = a.rows, b.rows, a.there & b.there
    x_sum, y_sum = x.sum(axis=0), y.sum(axis=0)
    xx, yy, xy = (np.einsum("ij,ij->i", one, two) for one, two in ((x, x), (y, y), (x, y)))
    counts = np.array([a.there.sum(), b.there.sum(), shared.sum()], np.float64)
    pairs = np.array([x_sum @ x_sum, y_sum @ y_sum, x_sum @ y_sum])
    pairs -= [xx.sum(), yy.sum(), xy.sum()]
    lost = np.stack(
        [2 * (x @ x_sum - xx), 2 * (y @ y_sum - yy), x @ y_sum + y @ x_sum - 2 * xy], axis=1
    )
    without = mean_square(counts - np.stack([a.there, b.there, shared], axis=1), pairs - lost)
    return float(mean_square(counts[np.newaxis], pairs[np.newaxis])[0]), without


def mean_square(counts: Floats, pairs: Floats) -> Floats:
    """|E x - E y|^2 from how many keys have x, y and both, and the sums of xx', yy' and xy'."""
    n, m, shared = counts.T
    square: Floats = (
        pairs[:, 0] / (n * (n - 1))
        + pairs[:, 1] / (m * (m - 1))
        - 2 * pairs[:, 2] / (n * m - shared)
    )
    return square


# --- to look at ---


class Plane(NamedTuple):
    """The plane in which some rows vary most: float64[dims] and float64[2 at most, dims].

    Each axis has unit length and points where its largest weight does, or is zero where the rows do
    not vary any more. Of the variance of the rows each has its share, float64[2].
    """

    middle: Floats
    axes: Floats
    shares: Floats

    def points(self, rows: Floats) -> Floats:
        """Rows of the same space in the plane, float64[n, 2]; fewer dims are filled with zeros."""
        flat = np.zeros((len(rows), 2))
        flat[:, : len(self.axes)] = (rows - self.middle) @ self.axes.T
        return flat


def plane_of(rows: Floats) -> Plane:
    """The plane of rows, one at least, by principal component analysis."""
    middle = rows.mean(axis=0)
    centred = rows - middle
    n, dims = rows.shape
    if n < dims:  # the smaller of two matrices with the same eigenvalues
        values, vectors = np.linalg.eigh(centred @ centred.T)
        axes = unit_rows((centred.T @ vectors[:, ::-1][:, :2]).T)
    else:
        values, vectors = np.linalg.eigh(centred.T @ centred)
        axes = vectors[:, ::-1][:, :2].T
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])
    shares = np.zeros(2)
    total = values.clip(0).sum()
    if total > 0:
        shares[: len(axes)] = values[::-1][: len(axes)].clip(0) / total
    # What is left by rounding is no direction.
    axes = axes * (signs * (shares[: len(axes)] > NO_SHARE))[:, np.newaxis]
    return Plane(middle, axes, shares)


def plane(x: Floats, y: Floats) -> tuple[Floats, Floats, Floats]:
    """Rows of one space in the plane of those of `y`, theirs too, and its shares of variance."""
    found = plane_of(y)
    return found.points(x), found.points(y), found.shares
