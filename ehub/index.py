"""The index of a space: how far it is, how well it answers, and how fast."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ehub import _arrays
from ehub._progress import bar

if TYPE_CHECKING:
    from ehub.view import View

__all__ = ["IndexStats", "RecallReport", "measure_recall"]

SAMPLE_MAX = 100_000
SEED = 0


@dataclass(frozen=True, slots=True)
class IndexStats:
    """What the index of a space covers.

    Rows without a graph are scanned, so they are found all the same. Rows that only tags and
    snapshots still see may lie in segments of their own: those have no graph, and a search of what
    lives does not scan them, until times of the past are searched a lot.
    """

    rows: int  # visible ones
    rows_indexed: int  # in segments that have a graph; dead ones count
    rows_scanned: int  # in segments that have none (yet, or for want of rows), but for the past
    rows_waiting: int  # of those scanned: in segments that have enough rows to get a graph
    segments: int  # that have a graph
    subsets: int  # graphs over a partition or a sub-index in one of them, as far as they are in use
    bytes: int  # of the index files
    unreachable: int  # rows that no walk can come to
    rebuilds: int  # graphs of the hub that were damaged and built again
    rows_building: int  # of the graph that is being built for the hub now, so far
    rows_per_second: float  # of its last build since the hub was opened; 0: there was none
    ef: int  # what a search for 10 keeps by default: the largest of the graphs
    rows_built: int  # of the graphs built for it since the hub was opened; grows while one is
    rows_due: int  # of graphs that are still to be built for it, as far as is known
    code_bits: int  # of a dimension: 4, 8, 16, or 32 for float32; the widest of the graphs


@dataclass(frozen=True, slots=True)
class RecallReport:
    """How the live index compares with an exact search for the same queries.

    Latencies are of single queries in one thread, in milliseconds, Python included.
    """

    k: int
    sample: int
    recall: float
    latency_p50_ms: float
    latency_p95_ms: float
    latency_p99_ms: float
    exact_latency_p50_ms: float


def measure_recall(
    view: View,
    k: int,
    sample: int,
    ef: int | None,
    progress: bool = False,
    before_step: Callable[[], object] = lambda: None,
) -> RecallReport:
    """Search around some of the stored rows, with the index and without.

    Until it is done, or `before_step`, called for each of them, raises.
    """
    _arrays.as_integer(k, "k", 1, 10_000)
    _arrays.as_integer(sample, "sample", 1, SAMPLE_MAX)
    keys = view.keys()
    if len(keys) < 2:
        return RecallReport(k, 0, 1.0, 0.0, 0.0, 0.0, 0.0)
    chosen = np.random.default_rng(SEED).permutation(len(keys))[:sample]
    found, exact = 0, 0
    walked: list[float] = []
    scanned: list[float] = []
    with bar(progress, len(chosen), "query", f"measure_recall {view.name}") as shown:
        for key in keys[chosen].tolist():
            before_step()
            began = time.perf_counter()
            answer = view.nearest_neighbors(k, key=key, ef=ef)
            between = time.perf_counter()
            truth = view.nearest_neighbors(k, key=key, exact=True)
            walked.append(between - began)
            scanned.append(time.perf_counter() - between)
            found += as_near(answer.distances, truth.distances)
            exact += len(truth)
            shown.update(1)
    p50, p95, p99 = (float(value) * 1e3 for value in np.percentile(walked, [50, 95, 99]))
    slow = float(np.median(scanned)) * 1e3
    return RecallReport(k, len(chosen), found / max(1, exact), p50, p95, p99, slow)


def as_near(distances: NDArray[np.float32], truth: NDArray[np.float32]) -> int:
    """How many rows are as near as the farthest true neighbor: of equal ones any will do."""
    return int((distances <= truth[-1]).sum()) if len(truth) else 0
