"""k-means over a view: centroids that stand for its rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ehub import _arrays
from ehub._native import _store
from ehub._progress import bar
from ehub.errors import InvalidArgumentError
from ehub.interrupts import interruptible
from ehub.types import Vectors

__all__ = ["KMeans", "kmeans"]

K_MAX = 65_536
ITERATIONS_MAX = 10_000
SEED_MAX = 2**64 - 2


@dataclass(frozen=True, slots=True, eq=False)
class KMeans:
    """Clusters of a view's rows.

    `rows` is how many were looked at, `counts` (int64[k]) how many of them are nearest to each of
    the `centroids` (float32[k, dims]), and `inertia` the sum of their distances from it.
    `converged` says that no row changed its cluster in the last of `iterations`.
    """

    centroids: Vectors
    counts: NDArray[np.int64]
    inertia: float
    rows: int
    iterations: int
    converged: bool

    def __repr__(self) -> str:
        return (
            f"KMeans(k={len(self.centroids)}, rows={self.rows}, inertia={self.inertia:.6g}, "
            f"iterations={self.iterations}, converged={self.converged})"
        )


def kmeans(
    view: _store.View,
    k: int,
    *,
    seed: int,
    iterations: int,
    sample: int | None,
    progress: bool,
    before_step: Callable[[], object] = lambda: None,
) -> KMeans:
    """Iterate until no row changes its cluster, or often enough; or until `before_step` raises."""
    _arrays.as_integer(k, "k", 1, K_MAX)
    _arrays.as_integer(seed, "seed", 0, SEED_MAX)
    _arrays.as_integer(iterations, "iterations", 0, ITERATIONS_MAX)
    if sample is not None and _arrays.as_integer(sample, "sample", 1, 2**62) < k:
        raise InvalidArgumentError(f"sample is {sample}, fewer than the {k} clusters")
    if not isinstance(view, _store.View):  # on a server, which does all of it
        return view.clusters(k, seed, iterations, sample, progress)
    done = 0
    changed = 1
    with bar(progress, iterations, "iteration", "kmeans") as shown:
        state = interruptible(view.kmeans, k, seed, 0 if sample is None else sample)
        while changed and done < iterations:
            before_step()
            changed = interruptible(state.step)
            done += 1
            shown.update(1)
    converged = done > 0 and changed == 0
    return KMeans(state.centroids(), state.counts(), state.inertia, state.rows, done, converged)
