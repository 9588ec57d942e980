"""What is searched: rows, queries and the distances of their true neighbors."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

import ehub
from ehub.formats import InputError
from ehub.formats.arrays import HDF5_DISTANCES
from ehub.model import DIMS_MAX
from ehub.types import Metric, Vectors

__all__ = [
    "Trial",
    "exact_neighbors",
    "from_hdf5",
    "from_random",
    "from_space",
    "prepared",
    "recall",
    "true_distances",
]

SEED = 20261124
QUERIES_AT_ONCE = 256
WRITE_BYTES = 32 << 20
CHECKED_QUERIES = 20  # of a file that brings its own true neighbors
CHECKED_MARGIN = 50  # so many rows more than k are compared in float64

# Norms that have a direction under cosine, as spaces take them: in float32, squares lose nothing.
NORM_LEAST, NORM_MOST = 1e-19, 1e19

# Two float64 distances are a tie if they differ by no more than this share, or by so little.
TIE_SHARE = 1e-6
TIE_LEAST = 1e-12

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Trial:
    """Rows to store, and queries that are not among them."""

    name: str
    metric: Metric
    rows: Vectors
    queries: Vectors
    neighbors: Ids | None = None  # int64[queries, at least k]: true ones, nearest first, if known
    truth: str = "computed"  # or "from the file"
    rows_left_out: int = 0  # because they have no direction
    queries_left_out: int = 0


# --- sources ---


def from_hdf5(path: Path, queries_max: int) -> Trial:
    """A file of ann-benchmarks' layout: `train`, `test`, perhaps `neighbors`, and a distance."""
    try:
        import h5py
    except ImportError as error:
        raise InputError("HDF5 files need h5py: pip install 'ehub[hdf5]'") from error
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path}: not an HDF5 file: {error}") from error
    with file:
        missing = [name for name in ("train", "test") if name not in file]
        if missing:
            raise InputError(
                f"{path}: no dataset {' or '.join(map(repr, missing))}; expected the layout of "
                "ann-benchmarks: train, test, neighbors, and the attribute distance"
            )
        neighbors = None
        if "neighbors" in file:
            neighbors = np.asarray(file["neighbors"][:queries_max], np.int64)
        metric = metric_of(file.attrs.get("distance"), path)
        rows = as_rows(file["train"][:], f"{path}: train")
        queries = as_rows(file["test"][:queries_max], f"{path}: test")
    if rows.shape[1] != queries.shape[1]:
        raise InputError(
            f"{path}: test has {queries.shape[1]} dims and train {rows.shape[1]}; expected as many"
        )
    return Trial(path.stem, metric, rows, queries, neighbors)


def metric_of(distance: Any, path: Path) -> Metric:
    """The metric that an HDF5 file's attribute names."""
    name = distance.decode() if isinstance(distance, bytes) else str(distance)
    metric = HDF5_DISTANCES.get(name)
    if metric not in get_args(Metric):
        raise InputError(
            f"{path}: its distance is {name!r:.100}; expected one of {', '.join(HDF5_DISTANCES)}"
        )
    return cast("Metric", metric)


def as_rows(values: Any, what: str) -> Vectors:
    """Vectors of a file as float32[n, dims]."""
    array = np.asarray(values)
    is_table = array.ndim == 2 and len(array) and 1 <= array.shape[1] <= DIMS_MAX
    if not is_table or array.dtype.kind not in "fiu":
        raise InputError(
            f"{what} is {array.dtype}{list(array.shape)}; expected numbers [n, dims], with 1 to "
            f"{DIMS_MAX:,} dims"
        )
    with np.errstate(over="ignore"):
        rows = np.ascontiguousarray(array, np.float32)
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(wrong):
        raise InputError(
            f"{what}: row {wrong[0]} holds a NaN or an infinity as float32; expected finite numbers"
        )
    return rows


def from_random(count: int, dims: int, metric: Metric, queries_max: int) -> Trial:
    """Random vectors, normally distributed: the hardest there are, and nobody's data."""
    random = np.random.default_rng(SEED)
    rows = random.standard_normal((count, dims), dtype=np.float32)
    queries = random.standard_normal((queries_max, dims), dtype=np.float32)
    return Trial(f"random-{count}-{dims}", metric, rows, queries)


def from_space(space: ehub.Space, queries_max: int) -> Trial:
    """A copy of a space's rows; some of them, at most a tenth, are taken out to be the queries."""
    _, vectors = space.to_numpy()
    held_out = min(queries_max, len(vectors) // 10)
    if held_out == 0:
        raise InputError(f"space {space.name!r} has {len(vectors)} rows; expected at least 10")
    order = np.random.default_rng(SEED).permutation(len(vectors))
    return Trial(
        space.name, space.metric, vectors[order[held_out:]], vectors[order[:held_out]].copy()
    )


# --- the truth ---


def prepared(trial: Trial, k: int, directory: Path) -> Trial:
    """The trial as every contender gets it: vectors of length 1 under cosine, neighbors known.

    Rows and queries without a direction are left out under cosine.
    """
    if trial.metric == "cosine":
        trial = directed(trial)
    if k > len(trial.rows):
        raise InputError(f"{trial.name} has {len(trial.rows)} rows; expected at least k, {k}")
    if trial.metric == "cosine":
        # Some libraries know no cosine. Nobody is to pay for what can be done once, beforehand.
        trial = replace(trial, rows=normalized(trial.rows), queries=normalized(trial.queries))
    if trial.neighbors is not None and is_right(trial, k):
        return replace(trial, truth="from the file")
    neighbors = exact_neighbors(trial, k, directory)
    return replace(trial, neighbors=neighbors, truth="computed")


def directed(trial: Trial) -> Trial:
    """The trial without rows and queries that no cosine compares; neighbors number what is left."""
    rows, queries = has_direction(trial.rows), has_direction(trial.queries)
    if not queries.any():
        raise InputError(f"{trial.name}: none of {len(queries)} queries has a direction")
    neighbors = trial.neighbors
    if not rows.all() or (neighbors is not None and len(neighbors) != len(queries)):
        neighbors = None
    return replace(
        trial,
        rows=trial.rows if rows.all() else trial.rows[rows],
        queries=trial.queries[queries],
        neighbors=None if neighbors is None else neighbors[queries],
        rows_left_out=int((~rows).sum()),
        queries_left_out=int((~queries).sum()),
    )


def has_direction(vectors: Vectors) -> NDArray[np.bool_]:
    """Which vectors a space takes under cosine."""
    lengths = np.linalg.norm(vectors, axis=1)
    found: NDArray[np.bool_] = (lengths >= NORM_LEAST) & (lengths <= NORM_MOST)
    return found


def normalized(vectors: Vectors) -> Vectors:
    """The vectors, which have a direction, each of length 1."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = (vectors / lengths).astype(np.float32, copy=False)
    return scaled


def is_right(trial: Trial, k: int) -> bool:
    """Whether the neighbors that came with the data are the true ones, by a sample."""
    known = trial.neighbors
    assert known is not None
    shape_fits = known.ndim == 2 and known.shape[0] == len(trial.queries) and known.shape[1] >= k
    if not shape_fits or known.min() < 0 or known.max() >= len(trial.rows):
        return False
    step = max(1, len(trial.queries) // CHECKED_QUERIES)
    sample = replace(trial, queries=trial.queries[::step], neighbors=known[::step, :k])
    nearest = replace(sample, neighbors=likely_nearest(sample, k + CHECKED_MARGIN))
    kth = np.partition(distances_to(nearest, cast("Ids", nearest.neighbors)), k - 1)[:, k - 1]
    return recall(sample, kth, cast("Ids", sample.neighbors), k) == 1


def likely_nearest(trial: Trial, count: int) -> Ids:
    """The nearest rows by products in float32, more than are asked about: fast, and near enough."""
    found: list[Ids] = []
    for start, rows in batches(trial.rows):
        distances = -(trial.queries @ rows.T)
        if trial.metric == "l2":
            distances = 2 * distances + np.einsum("ij,ij->i", rows, rows)
        few = min(count, len(rows))
        found.append(np.argpartition(distances, few - 1, axis=1)[:, :few] + start)
    return np.concatenate(found, axis=1)


def exact_neighbors(trial: Trial, k: int, directory: Path) -> Ids:
    """The true neighbors, by exact search in a hub of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="truth-", dir=directory) as temporary,
        ehub.open(Path(temporary, "hub"), durability="off") as hub,
    ):
        dims = trial.rows.shape[1]
        space = hub.create_space("rows", dims, metric=trial.metric, key_type="int")
        for start, rows in batches(trial.rows):
            space.multiset(np.arange(start, start + len(rows)), rows)
        answers = space.multi_nearest_neighbors(k, vectors=trial.queries, exact=True)
        return np.array([answer.keys for answer in answers], np.int64)


def batches(rows: Vectors) -> Iterator[tuple[int, Vectors]]:
    """The rows in pieces as large as one writes them: the number of the first, and the piece."""
    size = max(1, WRITE_BYTES // (4 * rows.shape[1]))
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size]


def true_distances(trial: Trial, k: int) -> NDArray[np.float64]:
    """How far the k-th true neighbor of each query is, computed in float64 from its number."""
    assert trial.neighbors is not None
    return np.sort(distances_to(trial, trial.neighbors[:, :k]), axis=1)[:, -1]


def recall(trial: Trial, kth: NDArray[np.float64], found: Ids, k: int) -> float:
    """The share of the k nearest that was found; of rows that tie for the last place any will do.

    A row that an answer lists twice counts once. Places of `found` that hold -1 are empty.
    """
    found = found[:, :k]
    distances = distances_to(trial, np.maximum(found, 0))
    good = (found >= 0) & (distances <= limit_of(kth)[:, np.newaxis]) & first_mentions(found)
    return float(good.sum()) / (k * len(found))


def first_mentions(found: Ids) -> NDArray[np.bool_]:
    """Which places of each answer hold a row that no place before holds."""
    order = np.argsort(found, axis=1, kind="stable")
    ranked = np.take_along_axis(found, order, axis=1)
    fresh = np.ones(found.shape, bool)
    fresh[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    first = np.empty_like(fresh)
    np.put_along_axis(first, order, fresh, axis=1)
    return first


def limit_of(kth: Any) -> Any:
    """Up to which distance a row ties with the k-th neighbor."""
    return kth + np.abs(kth) * TIE_SHARE + TIE_LEAST


def distances_to(trial: Trial, ids: Ids) -> NDArray[np.float64]:
    """The distance of each query to each row of its line of `ids`."""
    found = np.empty(ids.shape, np.float64)
    for start in range(0, len(ids), QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        found[part] = distances_between(trial.metric, trial.queries[part], trial.rows[ids[part]])
    return found


def distances_between(metric: Metric, queries: Vectors, rows: Vectors) -> NDArray[np.float64]:
    """Distances of queries[m, dims] to rows[m, n, dims], each query to its own, in float64."""
    left, right = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "l2":
        right -= left[:, np.newaxis]
        l2: NDArray[np.float64] = np.einsum("mnd,mnd->mn", right, right)
        return l2
    products = np.einsum("md,mnd->mn", left, right)
    if metric == "cosine":
        lengths = np.linalg.norm(left, axis=1)[:, np.newaxis] * np.linalg.norm(right, axis=2)
        products /= np.where(lengths > 0, lengths, 1)
    distances: NDArray[np.float64] = 1 - products
    return distances
