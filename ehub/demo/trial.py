"""What the demo does with a hub: store, close, reopen, index, search, get; check all, and time it.

The checks hold the store to what NumPy computes in float64: each distance must be right, each
vector equal bit for bit, each neighbor of an exact search one of the nearest (or as near as the
last of them), and as many of those of a search by the index as the space is made for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import ehub
from ehub.hub import disk_bytes

Say: TypeAlias = Callable[[str], None]
Progress: TypeAlias = Callable[[int], AbstractContextManager[Any]]

SPACE = "python"
BATCH_ROWS = 2048
K = 10
SEED = 7
QUERIES = 200
GETS = 1000
TARGET_RECALL = 0.95
DISTANCE_ERROR_MAX = 1e-5  # of a cosine distance computed in float32

# Names that a Python programmer knows, of which some releases lack some.
FAMILIAR = (
    "json.dumps",
    "pathlib.Path.mkdir",
    "statistics.median",
    "urllib.parse.urlsplit",
    "heapq.heappush",
    "gzip.compress",
    "shutil.copytree",
)
FAMILIAR_SHOWN = 4
NEIGHBORS_SHOWN = 4


@dataclass
class Report:
    """What the demo measured, and what it found wrong."""

    rows: int = 0
    dims: int = 0
    read_seconds: float = 0.0
    embed_seconds: float = 0.0
    store_seconds: float = 0.0
    open_seconds: float = 0.0
    recall: float = 0.0
    search_seconds: list[float] = field(default_factory=list)
    get_seconds: list[float] = field(default_factory=list)
    bytes_on_disk: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def vector_bytes(self) -> int:
        """What the vectors take as plain float32."""
        return self.rows * self.dims * 4


def try_hub(
    path: Path,
    keys: list[str],
    vectors: NDArray[np.float32],
    report: Report,
    say: Say,
    progress: Progress,
) -> None:
    """Everything that the demo does with the store."""
    report.rows, report.dims = vectors.shape
    megabytes = report.vector_bytes / 1e6
    say(f"3/6 storing {megabytes:.1f} MB in {path}, each batch safe on disk before the next")
    store(path, keys, vectors, report, progress)
    say("4/6 opening the hub again")
    started = time.perf_counter()
    with ehub.open(path) as hub:
        items = hub.get_space(SPACE)
        report.open_seconds = time.perf_counter() - started
        say("5/6 settling the index, and searching")
        items.optimize()
        show_neighbors(items, say)
        say(f"6/6 checking all vectors, and {QUERIES} searches against NumPy in float64")
        check_vectors(items, keys, vectors, report)
        check_searches(items, keys, vectors, report)
    report.bytes_on_disk = disk_bytes(str(path))


def store(
    path: Path, keys: list[str], vectors: NDArray[np.float32], report: Report, progress: Progress
) -> None:
    """Store all rows in batches, each durable before the next, and close the hub."""
    with ehub.open(path, durability="full") as hub, progress(len(keys)) as bar:
        items = hub.create_space(
            SPACE, dims=vectors.shape[1], metric="cosine", target_recall=TARGET_RECALL
        )
        started = time.perf_counter()
        for start in range(0, len(keys), BATCH_ROWS):
            batch = slice(start, start + BATCH_ROWS)
            items.multiset(keys[batch], vectors[batch])
            bar.update(len(keys[batch]))
        report.store_seconds = time.perf_counter() - started


def show_neighbors(items: ehub.Space, say: Say) -> None:
    """Print the neighbors of a few names, which everybody knows if they are there."""
    known = [name for name in FAMILIAR if name in items] or items
    for name in islice(known, FAMILIAR_SHOWN):
        say(f"    near {name}:")
        for neighbor in items.nearest_neighbors(NEIGHBORS_SHOWN, key=name):
            say(f"      {neighbor.distance:.3f}  {neighbor.key}")


def check_vectors(
    items: ehub.Space, keys: list[str], vectors: NDArray[np.float32], report: Report
) -> None:
    """Every vector must be there, bit for bit; some are got one by one, and timed."""
    if len(items) != len(keys):
        report.wrong.append(f"the space has {len(items)} rows, {len(keys)} were stored")
        return
    for start in range(0, len(keys), BATCH_ROWS):
        batch = slice(start, start + BATCH_ROWS)
        if not same_bits(items.multiget(keys[batch]), vectors[batch]):
            report.wrong.append(f"a vector differs in rows {start} to {start + BATCH_ROWS}")
    for row in sample(len(keys), GETS):
        with timed(report.get_seconds):
            vector = items.get(keys[row])
        if not same_bits(vector, vectors[row]):
            report.wrong.append(f"get({keys[row]!r}) differs from what was stored")


def same_bits(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether two arrays hold the same float32, bit for bit."""
    return one.dtype == other.dtype and one.tobytes() == other.tobytes()


def check_searches(
    items: ehub.Space, keys: list[str], vectors: NDArray[np.float32], report: Report
) -> None:
    """Search around some keys, by the index and exactly; compare with a full scan in float64."""
    row_of = {key: row for row, key in enumerate(keys)}
    rows = sample(len(keys), QUERIES)
    k = min(K, len(keys) - 1)
    found = found_exactly = 0
    for row, exact in zip(rows, exact_distances(vectors, rows), strict=True):
        key = keys[row]
        with timed(report.search_seconds):
            neighbors = items.nearest_neighbors(k, key=key)
        found += count_right(neighbors, row_of, exact, k, key, report)
        neighbors = items.nearest_neighbors(k, key=key, exact=True)
        found_exactly += count_right(neighbors, row_of, exact, k, key, report)
    most = k * len(rows)
    report.recall = found / most
    if report.recall < TARGET_RECALL:
        target = f"the space is made for {TARGET_RECALL}"
        report.wrong.append(f"recall@{k} is {report.recall:.4f}, {target}")
    if found_exactly < most:
        missed = f"{most - found_exactly} of {most} neighbors were missed"
        report.wrong.append(f"exact searches: {missed}")


def count_right(
    neighbors: Sequence[ehub.Neighbor],
    row_of: dict[str, int],
    exact: NDArray[np.float64],
    k: int,
    query: str,
    report: Report,
) -> int:
    """How many of the neighbors are among the k nearest; a tie with the last of those counts."""
    farthest = np.partition(exact, k - 1)[k - 1] + DISTANCE_ERROR_MAX
    found = [(row_of[str(neighbor.key)], neighbor.distance) for neighbor in neighbors]
    for row, distance in found:
        if abs(distance - exact[row]) > DISTANCE_ERROR_MAX:
            report.wrong.append(f"search({query!r}): a distance is {distance}, not {exact[row]}")
    return len({row for row, _ in found if exact[row] <= farthest})


def exact_distances(
    vectors: NDArray[np.float32], rows: Sequence[int]
) -> Iterator[NDArray[np.float64]]:
    """The cosine distances of some rows to all, in float64; infinity to themselves."""
    exact = vectors.astype(np.float64)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    for row in rows:
        distances = 1 - exact @ exact[row]
        distances[row] = np.inf
        yield distances


def sample(count: int, size: int) -> list[int]:
    """Some rows, always the same ones."""
    random = np.random.default_rng(SEED)
    rows: list[int] = random.choice(count, min(size, count), replace=False).tolist()
    return rows


@contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    """Note how long something took."""
    started = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - started)
