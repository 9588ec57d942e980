"""The index as a space grows: build and search against size, reopening, searching while it is fed.

The vectors are random, normally distributed, of 128 dims: the hardest there are, since all are
about equally far from each other. So speed is compared at one ef, and the recall that it gives
stands beside it.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

import ehub
from benchmarks.harness import (
    SEED,
    Claim,
    at_most,
    rows_of,
    scratch,
    settle,
    stolen_seconds,
    timed,
)
from ehub.bench.contenders import Ehub
from ehub.bench.measure import cores, one_by_one

DIMS = 128
K = 10
EF = 100
QUERIES = 1_000
TRUTH_QUERIES = 100
SIZES = (10_000, 30_000, 100_000, 300_000, 1_000_000)
SIZES_LITTLE = (5_000, 10_000)  # where the full size is not asked for

# The limits are ours: a graph's work should grow with the logarithm of the rows, memory slows it.
BUILD_GROWTH_MOST = 2.5  # time per row at the largest size, to that at the smallest
SEARCH_GROWTH_MOST = 4.0

INGEST_BATCH = 10_000
INGEST_TIMES = 5
SEARCHERS = 2
OPEN_MS_MOST = 30.0
SEARCH_MS_MOST = 50.0


# --- size ---


@dataclass(frozen=True)
class Grown:
    """One size."""

    rows: int
    build_seconds: float
    query_seconds: float
    recall: float


def growth_claims(scale: float) -> Iterator[Claim]:
    """Time per row and per query at the largest size, to the smallest; opening the largest."""
    sizes = SIZES if scale >= 1 else SIZES_LITTLE
    vectors = rows_of(sizes[-1] + QUERIES, DIMS)[1]
    rows, queries = vectors[:-QUERIES], vectors[-QUERIES:]
    grown = []
    for size in sizes:
        with scratch() as directory:
            grown.append(measured(rows[:size], queries, directory))
            if size == sizes[-1]:
                reopened = open_claim(size, queries[0], directory)
    first, last = grown[0], grown[-1]
    span = f"{last.rows:,} rows, to {first.rows:,}"
    yield growth(
        f"build time per row of {span}",
        [one.build_seconds / one.rows * 1e6 for one in grown],
        grown,
        BUILD_GROWTH_MOST,
        [f"{one.rows:,}: {one.build_seconds:.1f} s" for one in grown],
    )
    yield growth(
        f"time per query at ef {EF} of {span}",
        [one.query_seconds * 1e6 for one in grown],
        grown,
        SEARCH_GROWTH_MOST,
        [f"{one.rows:,}: {1 / one.query_seconds:.0f}/s, {one.recall:.3f}" for one in grown],
    )
    yield reopened


def growth(
    name: str, figures: list[float], grown: list[Grown], most: float, notes: list[str]
) -> Claim:
    """A figure at the largest size to that at the smallest, with the exponent that fits all."""
    exponent = np.polyfit(np.log([one.rows for one in grown]), np.log(figures), 1)[0]
    note = f"grows as rows^{exponent:.2f}; {'; '.join(notes)}"
    ratio = figures[-1] / figures[0]
    return Claim(name, figures[-1], figures[0], "us", ratio, most, at_least=False, note=note)


def measured(rows: np.ndarray, queries: np.ndarray, directory: Path) -> Grown:
    """Build and search one size; the settled hub stays in the directory, closed."""
    contender = Ehub()
    build_seconds = timed(lambda: contender.build(rows, "l2", 0, directory))
    search = contender.one(EF, K)
    with cores(1):
        one_by_one(search, queries)
        answers, seconds = one_by_one(search, queries)
    few = queries[:TRUTH_QUERIES]
    exact = contender.space.multi_nearest_neighbors(K, vectors=few, exact=True)
    found = sum(
        int((ours.distances <= truth.distances[-1]).sum())
        for ours, truth in zip(answers, exact, strict=False)
    )
    contender.close()
    return Grown(len(rows), build_seconds, float(seconds.mean()), found / (K * len(few)))


OPEN_PROBE = """
import sys, time
import numpy, ehub
query = numpy.load(sys.argv[2])
start = time.perf_counter()
hub = ehub.open(sys.argv[1])
hub.get_space("rows").nearest_neighbors(10, vector=query)
print((time.perf_counter() - start) * 1e3)
hub.close()
"""


def open_claim(rows: int, query: np.ndarray, directory: Path) -> Claim:
    """From opening a settled hub to the first answer, in processes of their own."""
    np.save(directory / "query.npy", query)
    command = [sys.executable, "-c", OPEN_PROBE, str(directory / "hub"), directory / "query.npy"]
    runs = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(7)
    ]
    name = f"open {rows:,} x {DIMS} to the first answer"
    return at_most(name, median(runs), OPEN_MS_MOST, "ms", note=f"of 7, at most {max(runs):.1f}")


# --- searching while the space is fed ---


@dataclass
class Watch:
    """What the searching threads saw."""

    acknowledged: int = 0
    done: bool = False
    seconds: float = 0.0  # until all rows were stored
    stolen: float = 0.0  # of the cores, by whoever runs the machine
    milliseconds: list[float] = field(default_factory=list)  # of each search
    missed: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def ingest_claims(scale: float) -> Iterator[Claim]:
    """Rows go in durably while two threads search for those that were acknowledged, several times.

    A machine that is not one's own stands still now and then, so the longest search that counts is
    the median one of the times. The keys of `rows_of` are let go before: Python's collector would
    visit all of the list while no search can go on.
    """
    count = max(20_000, int(1_000_000 * scale))
    rows = rows_of(count, DIMS)[1]
    settle()
    times = [stored_and_searched(rows) for _ in range(INGEST_TIMES if scale >= 1 else 1)]
    longest = [max(watch.milliseconds) for watch in times]
    every = np.concatenate([watch.milliseconds for watch in times])
    label = f"while {count:,} rows are stored"
    note = (
        f"of {len(times)}, at most {max(longest):.1f}; "
        f"{len(every):,} searches, p99 {np.percentile(every, 99):.1f} ms, "
        f"{(every > SEARCH_MS_MOST).sum()} above; "
        f"{median(count / watch.seconds for watch in times):,.0f} rows/s; "
        f"{sum(watch.stolen for watch in times):.2f} s of the cores kept from this machine"
    )
    yield at_most(f"{label}: longest search", median(longest), SEARCH_MS_MOST, "ms", note)
    missed = sum(len(watch.missed) for watch in times)
    found = len(every) - missed
    yield Claim(
        f"{label}: acknowledged rows that a search finds",
        *(found, len(every), "searches", found / len(every), 1.0),
        note=f"missed {missed}" if missed else "",
    )


def stored_and_searched(rows: np.ndarray) -> Watch:
    """One hub into which the rows go, and what those saw who searched meanwhile."""
    watch = Watch()
    with scratch() as directory, ehub.open(directory / "hub") as hub:
        space = hub.create_space("rows", DIMS, metric="l2", key_type="int")
        pool = [
            threading.Thread(target=search_meanwhile, args=(space, rows, watch, seed))
            for seed in range(SEARCHERS)
        ]
        stolen = stolen_seconds()
        for thread in pool:
            thread.start()
        started = time.perf_counter()
        for start in range(0, len(rows), INGEST_BATCH):
            keys = np.arange(start, min(start + INGEST_BATCH, len(rows)))
            space.multiset(keys, rows[keys])
            watch.acknowledged = int(keys[-1]) + 1
        watch.seconds = time.perf_counter() - started
        watch.done = True
        for thread in pool:
            thread.join()
        watch.stolen = stolen_seconds() - stolen
        if not np.array_equal(space.multiget(np.arange(len(rows))), rows):
            raise AssertionError("a row reads back wrong")
    settle()
    return watch


def search_meanwhile(space: ehub.Space, rows: np.ndarray, watch: Watch, seed: int) -> None:
    """Search around an acknowledged row: the newest one, then any, and so on."""
    random = np.random.default_rng(SEED + seed)
    took: list[float] = []
    missed = []
    while not (watch.done and took):
        acknowledged = watch.acknowledged
        if acknowledged == 0:
            continue
        row = acknowledged - 1 if len(took) % 2 == 0 else int(random.integers(acknowledged))
        started = time.perf_counter()
        answer = space.nearest_neighbors(K, vector=rows[row])
        took.append((time.perf_counter() - started) * 1e3)
        if row not in answer.keys:
            missed.append(row)
    with watch.lock:
        watch.milliseconds += took
        watch.missed += missed
