"""Durable ingest, against the bare disk, and LMDB, RocksDB and SQLite doing the same durable work.

Rows: 384-d float32 with string keys. A run is a fresh store that takes all rows in batches; the
clock runs from the first batch to the return of the last. Stores take turns; figures are medians
over the rounds. After each run three vectors are read back and compared.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.harness import DIMS, Claim, faster, rows_of, scratch, settle
from benchmarks.stores import Bare, BatchStore, Ehub, Lmdb, Rocks, Sqlite

Maker = Callable[[Path], BatchStore]
MAKERS: dict[str, Maker] = {
    "bare": Bare,
    "ehub": lambda directory: Ehub(directory, DIMS),
    "lmdb": Lmdb,
    "rocksdb": Rocks,
    "sqlite": Sqlite,
}
# batch rows: (share of the rows that is ingested, least ratio to bare, and to the best store)
TARGETS = {10_000: (1.0, 0.8, 2.5), 1_000: (1.0, 0.7, 2.0), 100: (0.2, 0.0, 2.0)}


def ingest_rate(maker: Maker, keys: list[str], vectors: np.ndarray, batch: int) -> float:
    """Rows per second of one fresh store."""
    with scratch() as directory:
        settle()
        store = maker(directory)
        slices = [(keys[i : i + batch], vectors[i : i + batch]) for i in range(0, len(keys), batch)]
        start = time.perf_counter()
        for some_keys, some_vectors in slices:
            store.put(some_keys, some_vectors)
        seconds = time.perf_counter() - start
        for i in (0, len(keys) // 2 // batch * batch, (len(keys) - 1) // batch * batch):
            if not np.array_equal(store.get(keys[i]), vectors[i]):
                raise AssertionError(f"{maker}: {keys[i]} reads back wrong")
        store.close()
    return len(keys) / seconds


def ingest_claims(rows: int, rounds: int) -> list[Claim]:
    """Batches of 10,000, 1,000 and 100."""
    keys, vectors = rows_of(rows)
    claims = []
    for batch, (share, to_bare, to_best) in TARGETS.items():
        n = max(batch, int(rows * share))
        rates: dict[str, list[float]] = {name: [] for name in MAKERS}
        for _ in range(rounds):
            for name, maker in MAKERS.items():
                rates[name].append(ingest_rate(maker, keys[:n], vectors[:n], batch))
        medians = {name: statistics.median(each) for name, each in rates.items()}
        best = max(("lmdb", "rocksdb", "sqlite"), key=lambda name: medians[name])
        label = f"durable ingest, batches of {batch:,}"
        if to_bare:
            claims.append(
                faster(
                    f"{label}, to the bare disk", rates["ehub"], rates["bare"], to_bare, "rows/s"
                )
            )
        claims.append(
            faster(
                f"{label}, to {best}", rates["ehub"], rates[best], to_best, "rows/s", others=medians
            )
        )
    return claims


def set_latencies(store: BatchStore, keys: list[str], vectors: np.ndarray) -> list[float]:
    """Seconds of each durable write of one row."""
    latencies = []
    for i, key in enumerate(keys):
        start = time.perf_counter()
        store.put([key], vectors[i : i + 1])
        latencies.append(time.perf_counter() - start)
    return latencies


def single_set_claim(writes: int, rounds: int) -> Claim:
    """One row a write, one thread: the median latency against RocksDB's."""
    keys, vectors = rows_of(writes * rounds)
    ours: list[float] = []
    theirs: list[float] = []
    with scratch() as directory:
        mine, rocks = Ehub(directory, DIMS), Rocks(directory)
        for r in range(rounds):
            part = slice(r * writes, (r + 1) * writes)
            settle()
            ours += set_latencies(mine, keys[part], vectors[part])
            settle()
            theirs += set_latencies(rocks, keys[part], vectors[part])
        mine.close()
        rocks.close()
    p50, rocks_p50 = (statistics.median(each) * 1e6 for each in (ours, theirs))
    note = (
        f"p99 {np.percentile(ours, 99) * 1e6:.0f} against {np.percentile(theirs, 99) * 1e6:.0f} us"
    )
    return Claim(
        "one durable set, p50, to rocksdb", p50, rocks_p50, "us", p50 / rocks_p50, 1.0, False, note
    )


def threads_rate(store: Ehub, threads: int, keys: list[str], vectors: np.ndarray) -> float:
    """Durable sets per second of `threads` threads that share the keys."""
    barrier = threading.Barrier(threads + 1)

    def work(first: int) -> None:
        barrier.wait()
        for i in range(first, len(keys), threads):
            store.space.set(keys[i], vectors[i])
        barrier.wait()

    pool = [threading.Thread(target=work, args=(t,)) for t in range(threads)]
    for thread in pool:
        thread.start()
    barrier.wait()
    start = time.perf_counter()
    barrier.wait()
    seconds = time.perf_counter() - start
    for thread in pool:
        thread.join()
    return len(keys) / seconds


def group_commit_claim(writes: int, rounds: int) -> Claim:
    """64 threads, each setting one key at a time, against one thread."""
    keys, vectors = rows_of(writes * 8)
    one: list[float] = []
    many: list[float] = []
    with scratch() as directory:
        store = Ehub(directory, DIMS)
        for _ in range(rounds):
            settle()
            one.append(threads_rate(store, 1, keys[:writes], vectors))
            settle()
            many.append(threads_rate(store, 64, keys, vectors))
        store.close()
    return faster("64 threads setting keys durably, to one thread", many, one, 20.0, "sets/s")


def claims(scale: float) -> list[Claim]:
    """All of the above; `scale` 1 is the full size."""
    rounds = 3 if scale >= 1 else 1
    writes = max(20, int(2_000 * scale))
    return [
        *ingest_claims(max(10_000, int(1_000_000 * scale)), rounds),
        single_set_claim(writes, rounds),
        group_commit_claim(writes, rounds),
    ]
