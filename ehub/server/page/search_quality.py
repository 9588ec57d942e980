"""How well and how fast a space is searched, by how much effort: recall and latency for each ef."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from ehub.index import as_near
from ehub.neighbors import Neighbors
from ehub.types import Key, KeyArray
from ehub.view import View

__all__ = ["Curve", "Point", "measure"]

EFS = (10, 20, 40, 80, 160, 320)
QUERIES = 40
EXACT_QUERIES = 5


@dataclass(frozen=True, slots=True)
class Point:
    """Searches that keep `ef` candidates: recall@k, and latencies of one search (ms)."""

    ef: int
    recall: float
    p50_ms: float
    p95_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Curve:
    """Points by rising ef, and how long one search takes that looks at every row (median, ms)."""

    k: int
    queries: int
    exact_ms: float
    points: tuple[Point, ...]


def measure(view: View, k: int, keys: KeyArray) -> Curve:
    """Search around some of `keys`, one after the other, and compare with an exact search."""
    queries = keys[:QUERIES].tolist()
    truth = view.multi_nearest_neighbors(k, keys=queries, exact=True)
    wanted = max(1, sum(map(len, truth)))
    exact = [timed(view, k, key, exact=True)[1] for key in queries[:EXACT_QUERIES]]
    points = []
    for ef in EFS:
        answers = [timed(view, k, key, ef=ef) for key in queries]
        near = (
            as_near(one.distances, true.distances)
            for (one, _), true in zip(answers, truth, strict=True)
        )
        p50, p95, most = np.percentile([ms for _, ms in answers], [50, 95, 100]).tolist()
        points.append(Point(ef, sum(near) / wanted, p50, p95, most))
    return Curve(k, len(queries), float(np.median(exact)), tuple(points))


def timed(view: View, k: int, key: Key, **how: Any) -> tuple[Neighbors, float]:
    """The answer of one search, and how long it took, in milliseconds."""
    began = time.perf_counter()
    found = view.nearest_neighbors(k, key=key, **how)
    return found, (time.perf_counter() - began) * 1e3
