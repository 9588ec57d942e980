"""Searches in a tenth of a space: a partition and a sub-index, beside a space of just those rows.

All three answer the same queries in turn, one at a time, each with the smallest `ef` of a ladder
that finds TARGET of the true 10 nearest. What labels and a sub-index's keys cost on disk is set
against the size of the vectors.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import ehub
from benchmarks.harness import SEED, Claim, at_most, scratch, settle
from ehub.view import View

ROWS = 1_000_000
SIZE_ROWS = 100_000  # the keys of a tenth of fewer would stay in the log
DIMS = 128
INNER_DIMS = 16
PART = 10  # one row in so many
QUERIES = 1000
WARM = 50
BATCH = 100_000
TARGET = 0.95
LADDER = (10, 12, 16, 20, 24, 32, 40, 48, 64, 80, 96, 128, 192, 256, 512)


def made(rows: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Rows and queries of few inner dimensions, with noise in all."""
    random = np.random.default_rng(SEED)
    mixing = random.standard_normal((INNER_DIMS, DIMS), dtype=np.float32)

    def some(n: int) -> NDArray[np.float32]:
        inner = random.standard_normal((n, INNER_DIMS), dtype=np.float32)
        return inner @ mixing + 0.3 * random.standard_normal((n, DIMS), dtype=np.float32)

    return some(rows), some(QUERIES)


def fill(
    space: ehub.Space, vectors: NDArray[np.float32], keys: NDArray[np.int64], *, label: bool
) -> None:
    """Store rows under `keys`, if asked with every tenth one in the partition."""
    for begin in range(0, len(keys), BATCH):
        part = keys[begin : begin + BATCH]
        labels = ["tenth" if key % PART == 0 else "rest" for key in part] if label else None
        space.multiset(part, vectors[part], partition=labels)


def recall(view: View, queries: NDArray[np.float32], truth: list[set[int]], ef: int) -> float:
    """The share of the true nearest that a search finds."""
    found = view.multi_nearest_neighbors(10, vectors=queries, ef=ef)
    hits = sum(len(true & set(near.keys.tolist())) for true, near in zip(truth, found, strict=True))
    return hits / (10 * len(truth))


def ef_for(view: View, queries: NDArray[np.float32], truth: list[set[int]]) -> tuple[int, float]:
    """The smallest width of the ladder that reaches the target, and what it finds."""
    found = 0.0
    for ef in LADDER:
        found = recall(view, queries, truth, ef)
        if found >= TARGET:
            return ef, found
    raise AssertionError(f"a search finds {found:.3f} at most")


def in_turn(views: list[tuple[View, int]], queries: NDArray[np.float32]) -> list[float]:
    """The median time of a query to each view, in microseconds; the views take turns."""
    times: list[list[float]] = [[] for _ in views]
    for query in queries:
        for (view, ef), taken in zip(views, times, strict=True):
            began = time.perf_counter()
            view.nearest_neighbors(10, vector=query, ef=ef)
            taken.append(time.perf_counter() - began)
    return [statistics.median(taken[WARM:]) * 1e6 for taken in times]


def search_claims(directory: Path, rows: int) -> list[Claim]:
    """A tenth of the rows three times over."""
    vectors, queries = made(rows)
    with ehub.open(directory / "subsets", durability="off") as hub:
        alone = {}
        for name, first in (("partition", 0), ("sub-index", 1)):
            alone[name] = hub.create_space(name, DIMS, metric="l2", key_type="int")
            fill(alone[name], vectors, np.arange(first, rows, PART), label=False)
            alone[name].optimize()
        items = hub.create_space("items", DIMS, metric="l2", key_type="int")
        fill(items, vectors, np.arange(rows), label=True)
        subindex = items.create_subindex("tenth", keys=np.arange(1, rows, PART))
        items.optimize()
        parts: dict[str, View] = {"partition": items.partition("tenth"), "sub-index": subindex}
        settle()
        claims = []
        for name, part in parts.items():
            exact = alone[name].multi_nearest_neighbors(10, vectors=queries, exact=True)
            truth = [set(near.keys.tolist()) for near in exact]
            mine, other = (ef_for(view, queries, truth) for view in (part, alone[name]))
            times = in_turn([(part, mine[0]), (alone[name], other[0])], queries)
            note = f"recall {mine[1]:.3f} and {other[1]:.3f}, ef {mine[0]} and {other[0]}"
            what = f"search in a {name} of {rows // PART:,} of {rows:,} rows, to a space of its own"
            claims.append(Claim(what, *times, "us", times[0] / times[1], 1.2, False, note))
        return claims


def size_of(directory: Path) -> int:
    """The bytes of the segments of a hub."""
    return sum(path.stat().st_size for path in (directory / "segments").iterdir())


def size_claims(directory: Path, rows: int) -> list[Claim]:
    """What labels and keys add to the vectors."""
    vectors, _ = made(rows)
    sizes = []
    for label in (False, True):
        path = directory / f"labels-{label}"
        with ehub.open(path, durability="off") as hub:
            items = hub.create_space("items", DIMS, metric="l2", key_type="int")
            fill(items, vectors, np.arange(rows), label=label)
        sizes.append(size_of(path))
    with ehub.open(path, durability="off") as hub:
        hub.get_space("items").create_subindex("tenth", keys=np.arange(1, rows, PART))
    sizes.append(size_of(path))
    limit = vectors.nbytes / 100
    return [
        at_most("partition labels on disk, to 1 % of the vectors", sizes[1] - sizes[0], limit, "B"),
        at_most("keys of a sub-index of a tenth, the same", sizes[2] - sizes[1], limit, "B"),
    ]


def claims(scale: float = 1.0) -> list[Claim]:
    """What the suite measures."""
    rows = int(ROWS * scale)
    with scratch() as directory:
        return search_claims(directory, rows) + size_claims(directory, SIZE_ROWS)
