"""The neighbours of sampled keys, found through the index, and how far two such lists agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from ehub.comparison.intervals import Floats
from ehub.types import KeyArray, Vectors

if TYPE_CHECKING:
    from ehub.neighbors import Neighbors
    from ehub.view import View

__all__ = ["RBO_P", "Lists", "agreement", "nearest", "overlap", "rank_biased_overlap"]

RBO_P = 0.9

# What the index misses would look like a difference of the views, so the walks are wide.
EF = 200
# Of neighbours at the same distance those with the smaller keys count, so that the order in which
# rows were written does not; as far as so many more than needed tell.
SPARE = 16


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """For each of some queries the keys of its neighbours, at most k, all in one.

    Attributes:
        queries: How many.
        k: How many neighbours a query has at most.
        rows: int[any], ascending: the query that a neighbour is of.
        ranks: int[any]: its rank there, from 0 on.
        keys: Its key.
        distances: float64[any].
    """

    queries: int
    k: int
    rows: NDArray[np.intp]
    ranks: NDArray[np.intp]
    keys: KeyArray
    distances: Floats

    def take(self, chosen: NDArray[np.intp]) -> Lists:
        """The lists of some of the queries, in their order (ascending)."""
        places = np.full(self.queries, -1)
        places[chosen] = np.arange(len(chosen))
        kept = places[self.rows] >= 0
        return Lists(
            len(chosen),
            self.k,
            places[self.rows[kept]],
            self.ranks[kept],
            self.keys[kept],
            self.distances[kept],
        )


def nearest(
    view: View,
    queries: Vectors,
    own: KeyArray,
    k: int,
    *,
    among: KeyArray | None = None,
    exact: bool = False,
) -> Lists:
    """The k nearest rows to each query vector, but for the row under the query's own key.

    Args:
        view: Where to search.
        queries: float32[n, dims].
        own: The key of each.
        k: How many neighbours.
        among: The keys that may be found; None for all.
        exact: Scan all rows.
    """
    if len(queries) == 0:
        return cut([], own, k)
    num = k + 1 + SPARE
    found = view.multi_nearest_neighbors(
        num, vectors=queries, filter=among, ef=max(EF, 4 * num), exact=exact
    )
    return cut(found, own, k)


def cut(found: Sequence[Neighbors], own: KeyArray, k: int) -> Lists:
    """Found neighbours without the query's own key, in order of distance and then key."""
    counts = np.array([len(one) for one in found], np.intp)
    rows = np.repeat(np.arange(len(found)), counts)
    keys = cast("KeyArray", np.concatenate([own[:0], *(one.keys for one in found)]))
    distances = np.concatenate([np.empty(0), *(one.distances.astype(np.float64) for one in found)])
    others = keys != own[rows]
    rows, keys, distances = rows[others], cast("KeyArray", keys[others]), distances[others]
    order = np.lexsort((np.unique(keys, return_inverse=True)[1], distances, rows))
    begins = np.searchsorted(rows, np.arange(len(found)))
    ranks = np.arange(len(rows)) - begins[rows]
    best = ranks < k
    order = order[best]
    return Lists(
        len(found),
        k,
        rows[order],
        ranks[best],
        cast("KeyArray", keys[order]),
        distances[order],
    )


def agreement(a: Lists, b: Lists) -> NDArray[np.intp]:
    """int[queries, k]: in column d - 1 how many keys the first d of both lists have in common."""
    n, k = a.queries, a.k
    table, ids = np.unique(np.concatenate([a.keys, b.keys]), return_inverse=True)
    places_a = a.rows * len(table) + ids[: len(a.keys)]
    places_b = b.rows * len(table) + ids[len(a.keys) :]
    _, in_a, in_b = np.intersect1d(places_a, places_b, assume_unique=True, return_indices=True)
    # A key is in both from the depth on at which the second list has it, too.
    depths = np.maximum(a.ranks[in_a], b.ranks[in_b])
    counts = np.bincount(a.rows[in_a] * k + depths, minlength=n * k)
    return np.cumsum(counts.reshape(n, k), axis=1, dtype=np.intp)


def overlap(common: NDArray[np.intp]) -> Floats:
    """Per query the share of the k neighbours that both lists have: |intersection| / k."""
    shares: Floats = common[:, -1] / common.shape[1]
    return shares


def rank_biased_overlap(common: NDArray[np.intp], p: float = RBO_P) -> Floats:
    """Per query the agreement of two rankings, in which the first ranks weigh most.

    The extrapolated form for two lists of k (Webber, Moffat and Zobel, "A similarity measure for
    indefinite rankings", 2010, equation 23): what both have at depth k is taken to go on.
    """
    depths = np.arange(1, common.shape[1] + 1)
    shares = common / depths
    weights = (1 - p) / p * p**depths
    agreed: Floats = shares @ weights + shares[:, -1] * p ** depths[-1]
    return agreed
