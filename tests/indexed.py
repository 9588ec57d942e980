"""Spaces with graphs, rows that look like embeddings, and the recall of an answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import ehub
from ehub._native import _store

METRICS = ("l2", "ip", "cosine")


def open_hub(path: Path, **options: object) -> ehub.Hub:
    """A hub whose limits can be chosen."""
    return ehub.Hub(_store.Store(str(path), **{"durability": "off", **options}))


def normal(seed: int, n: int, dims: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dims), dtype=np.float32)


def embeddings(seed: int, n: int, dims: int) -> np.ndarray:
    """Rows as models make them: in clusters, and with much of their variance in few dimensions."""
    rng = np.random.default_rng(seed)
    scale = np.float32(1) / np.sqrt(np.arange(1, dims + 1, dtype=np.float32))
    # The clusters are the same for all seeds, so that queries are like the rows.
    centres = np.random.default_rng(0).standard_normal((50, dims), dtype=np.float32)
    rows = centres[rng.integers(0, 50, n)] + rng.standard_normal((n, dims), dtype=np.float32)
    return rows * scale


def distances(metric: str, queries: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The oracle: float64[queries, rows]."""
    queries, rows = queries.astype(np.float64), rows.astype(np.float64)
    if metric == "cosine":
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    products = queries @ rows.T
    if metric != "l2":
        return 1 - products
    squares = (rows**2).sum(axis=1) + (queries**2).sum(axis=1)[:, None] - 2 * products
    return np.maximum(squares, 0)


def recall(
    space: ehub.Space,
    rows: np.ndarray,
    queries: np.ndarray,
    k: int = 10,
    dead: np.ndarray | None = None,
    **options: object,
) -> float:
    """The share of the k nearest of `rows` (key i has rows[i], unless dead) that a search finds.

    Of rows at the same distance any will do. What is found must be what it says it is.
    """
    truth = distances(space.metric, queries, rows)
    if "filter" in options:
        truth[:, np.setdiff1d(np.arange(len(rows)), options["filter"])] = np.inf
    if dead is not None:
        truth[:, dead] = np.inf
    kth = np.partition(truth, min(k, len(rows)) - 1, axis=1)[:, min(k, len(rows)) - 1]
    close = 1e-5 * (1 + np.abs(truth[np.isfinite(truth)]).max())
    hits = 0
    answers = space.multi_nearest_neighbors(k, vectors=queries, **options)
    for query, found in enumerate(answers):
        keys = found.keys
        assert len(found) == len(set(keys.tolist())) == np.isfinite(truth[query]).sum().clip(0, k)
        assert (np.diff(found.distances) >= 0).all()
        np.testing.assert_allclose(found.distances, truth[query, keys], rtol=1e-3, atol=close)
        hits += (truth[query, keys] <= kth[query] + close).sum()
    return hits / sum(len(found) for found in answers)


def filled(hub: ehub.Hub, rows: np.ndarray, metric: str, **parameters: object) -> ehub.Space:
    """A space with these rows under their numbers, all indexed."""
    space = hub.create_space("items", rows.shape[1], metric=metric, key_type="int", **parameters)
    space.multiset(np.arange(len(rows)), rows)
    space.wait_indexed()
    return space


SEGMENT_ROWS, SEGMENT_DIMS = 8_000, 64


def make_two_segments(path: Path, **options: object) -> Path:
    """A hub whose space "items" has two segments of so many rows, each with its graph.

    To build a graph over both takes some seconds.
    """
    with open_hub(path, **options) as hub:
        items = hub.create_space(
            "items", SEGMENT_DIMS, metric="l2", key_type="int", ef_construction=400
        )
        for begin in (0, SEGMENT_ROWS):
            keys = np.arange(begin, begin + SEGMENT_ROWS)
            items.multiset(keys, embeddings(begin, SEGMENT_ROWS, SEGMENT_DIMS))
            items.wait_indexed()
        assert items.index_stats().segments == 2
    return path


def require_indexed(space: ehub.Space) -> ehub.IndexStats:
    stats = space.index_stats()
    assert stats.rows_scanned == 0
    assert stats.unreachable == 0
    assert stats.segments >= 1
    return stats
