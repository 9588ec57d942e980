"""Reads by key, open, memory and bytes on disk, of a hub of 1 M rows.

multiget is compared with LMDB copying the same vectors into one numpy array (the better of a loop
of gets and one cursor call); every vector is compared with what was written. Page cache warm,
blocks verified by a first pass.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import ehub
from benchmarks.harness import DIMS, SEED, Claim, at_most, faster, rows_of, scratch, settle, timed
from benchmarks.stores import Ehub, Lmdb

BATCH = 10_000


def fill(store: Ehub | Lmdb, keys: list[str], vectors: np.ndarray) -> None:
    """Ingests all rows."""
    for i in range(0, len(keys), BATCH):
        store.put(keys[i : i + BATCH], vectors[i : i + BATCH])


def multiget_claim(
    space: ehub.Space, lmdb: Lmdb, keys: list[str], vectors: np.ndarray, rounds: int
) -> Claim:
    """10,000 random keys a call."""
    rng = random.Random(SEED)
    n = min(10_000, len(keys))
    out = np.empty((n, DIMS), dtype=np.float32)
    ours, loop, cursor = [], [], []
    for _ in range(rounds * 5 + 1):
        rows = rng.sample(range(len(keys)), n)
        some = [keys[row] for row in rows]
        got: list[np.ndarray] = []
        ours.append(n / timed(lambda some=some, got=got: got.append(space.multiget(some))))
        loop.append(n / timed(lambda some=some: lmdb.multiget(some, out)))
        cursor.append(n / timed(lambda some=some: lmdb.multiget_cursor(some, out)))
        if not (np.array_equal(got[0], vectors[rows]) and np.array_equal(out, vectors[rows])):
            raise AssertionError("multiget reads back wrong")
    best = max(loop[1:], cursor[1:], key=statistics.median)
    return faster(f"multiget of {n:,} random keys, to lmdb", ours[1:], best, 3.0, "keys/s")


def get_claim(space: ehub.Space, keys: list[str]) -> Claim:
    """CPU time of one get, Python call included, and without the threads that build the index."""
    rng = random.Random(SEED)
    some = [keys[rng.randrange(len(keys))] for _ in range(20_000)]
    get = space.get
    for key in some:
        get(key)
    start = time.thread_time()
    for key in some:
        get(key)
    microseconds = (time.thread_time() - start) / len(some) * 1e6
    return at_most("one get, CPU time", microseconds, 2.0, "us")


OPEN_PROBE = """
import json, resource, sys, time
import numpy, ehub
def resident():
    status = open("/proc/self/status")
    return int(next(l for l in status if l.startswith("VmRSS")).split()[1]) / 1024
before = resident()
start = time.perf_counter()
hub = ehub.open(sys.argv[1])
vector = hub.get_space("items").get(sys.argv[2])
milliseconds = (time.perf_counter() - start) * 1e3
print(json.dumps({"ms": milliseconds, "rss": resident(), "before": before}))
hub.close()
"""


def open_probe(hub: Path, key: str) -> dict[str, float]:
    """Milliseconds from open to the first vector, and resident MB, of a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", OPEN_PROBE, str(hub), key],
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def open_claims(sizes: list[int], keys: list[str], vectors: np.ndarray) -> list[Claim]:
    """Open to first get for several sizes; resident memory after it."""
    claims = []
    for n in sizes:
        with scratch() as directory:
            store = Ehub(directory, DIMS)
            fill(store, keys[:n], vectors[:n])
            store.close()
            probes = [open_probe(directory / "hub", keys[n // 2]) for _ in range(7)]
        milliseconds = statistics.median(probe["ms"] for probe in probes)
        claims.append(at_most(f"open {n:,} rows to the first get", milliseconds, 20.0, "ms"))
    rss = statistics.median(probe["rss"] for probe in probes)
    before = statistics.median(probe["before"] for probe in probes)
    note = f"of which {before:.0f} MB are Python, numpy and the package before open"
    return [
        *claims,
        at_most(f"resident memory after open, {sizes[-1]:,} rows", rss, 50.0, "MB", note),
    ]


INGEST_PROBE = """
import json, sys, threading, time
import numpy as np, ehub
rows, dims, directory = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
vectors = np.random.default_rng(1).standard_normal((rows, dims), dtype=np.float32)
keys = [f"item-{i:08d}" for i in range(rows)]
def private():
    status = open("/proc/self/status")
    return int(next(l for l in status if l.startswith("RssAnon")).split()[1]) / 1024
peak = before = private()
done = False
def watch():
    global peak
    while not done:
        peak = max(peak, private())
        time.sleep(0.005)
watcher = threading.Thread(target=watch)
watcher.start()
hub = ehub.open(directory)
space = hub.create_space("items", dims, metric="l2")
for i in range(0, rows, 10_000):
    space.multiset(keys[i:i + 10_000], vectors[i:i + 10_000])
hub.close()
done = True
watcher.join()
print(json.dumps({"mb": peak - before}))
"""


def disk_claims(rows: int) -> list[Claim]:
    """Bytes on disk of a closed hub, and the memory that ingest took beyond the caller's arrays.

    Memory of the process's own: pages of mapped files are the system's cache, which it takes back.
    """
    with scratch() as directory:
        hub = directory / "hub"
        command = [sys.executable, "-c", INGEST_PROBE, str(rows), str(DIMS), str(hub)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        size = sum(path.stat().st_blocks * 512 for path in hub.rglob("*") if path.is_file())
    raw = rows * (DIMS * 4 + len("item-00000000"))
    ratio = Claim(
        "bytes on disk, to vector and key bytes", size, raw, "bytes", size / raw, 1.05, False
    )
    return [
        ratio,
        at_most(
            "peak memory of ingest beyond the arrays", json.loads(done.stdout)["mb"], 300.0, "MB"
        ),
    ]


def claims(scale: float) -> list[Claim]:
    """All of the above; `scale` 1 is the full size."""
    rows = max(10_000, int(1_000_000 * scale))
    keys, vectors = rows_of(rows)
    with scratch() as directory:
        store, lmdb = Ehub(directory, DIMS), Lmdb(directory)
        fill(store, keys, vectors)
        fill(lmdb, keys, vectors)
        store.hub.checkpoint()
        settle()
        for _ in store.space.scan():
            pass
        found = [
            multiget_claim(store.space, lmdb, keys, vectors, 3 if scale >= 1 else 1),
            get_claim(store.space, keys),
        ]
        store.close()
        lmdb.close()
    sizes = sorted({max(1_000, rows // 100), max(5_000, rows // 10), rows})
    return [*found, *open_claims(sizes, keys, vectors), *disk_claims(rows)]
