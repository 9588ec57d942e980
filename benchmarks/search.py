"""Exact nearest neighbours: one query against the read bandwidth, 256 against numpy's product.

The bandwidth is that of a plain vectorised sum over an array of the same size, compiled here from
`read_sum.c`. numpy's work is `Q @ X.T` (OpenBLAS) and `argpartition`; the answers are compared as
sets.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import subprocess
from pathlib import Path

import numpy as np

from benchmarks.harness import DIMS, SEED, Claim, faster, rows_of, scratch, timed
from benchmarks.stores import Ehub

K = 10
QUERIES = 256


def read_sum(directory: Path) -> ctypes.CDLL:
    """Compiles and loads the bandwidth probe."""
    library = directory / "read_sum.so"
    source = Path(__file__).with_name("read_sum.c")
    subprocess.run(["cc", "-O3", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.read_sum.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    loaded.read_sum.restype = ctypes.c_float
    return loaded


def bandwidth_claim(store: Ehub, vectors: np.ndarray, directory: Path, rounds: int) -> Claim:
    """One query over all rows, on one core."""
    probe = read_sum(directory)
    query = vectors[len(vectors) // 3]
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    ours, limit = [], []
    try:
        for _ in range(rounds):
            limit.append(
                vectors.nbytes
                / timed(lambda: probe.read_sum(vectors.ctypes.data, vectors.size))
                / 1e9
            )
            ours.append(
                vectors.nbytes / timed(lambda: store.space.nearest_neighbors(K, vector=query)) / 1e9
            )
    finally:
        os.sched_setaffinity(0, cores)
    return faster(
        "exact scan of one query, one core, to read bandwidth", ours[1:], limit[1:], 0.8, "GB/s"
    )


def batch_claim(store: Ehub, keys: list[str], vectors: np.ndarray, rounds: int) -> Claim:
    """256 queries at once, on as many threads as numpy uses."""
    queries = np.random.default_rng(SEED + 1).standard_normal((QUERIES, DIMS), dtype=np.float32)
    number = {key: i for i, key in enumerate(keys)}

    def numpy_answer() -> np.ndarray:
        products = queries @ vectors.T
        return np.argpartition(-products, K, axis=1)[:, :K]

    ours, theirs = [], []
    for _ in range(rounds):
        answers: list[object] = []
        theirs.append(QUERIES / timed(lambda answers=answers: answers.append(numpy_answer())))
        ours.append(
            QUERIES
            / timed(
                lambda answers=answers: answers.append(
                    store.space.multi_nearest_neighbors(K, vectors=queries)
                )
            )
        )
    same = sum(
        len(set(expected.tolist()) & {number[key] for key in found.keys})
        for expected, found in zip(answers[0], answers[1], strict=True)  # type: ignore[call-overload]
    )
    if same < QUERIES * K * 0.999:
        raise AssertionError(f"only {same} of {QUERIES * K} neighbours agree with numpy")
    note = f"{statistics.median(ours):.0f} queries/s"
    return faster(
        f"exact search, {QUERIES} queries, to numpy",
        ours[1:],
        theirs[1:],
        1.0,
        "queries/s",
        note=note,
    )


def claims(scale: float) -> list[Claim]:
    """Both; `scale` 1 is the full size."""
    rows = max(5_000, int(100_000 * scale))
    keys, vectors = rows_of(rows)
    rounds = 21 if scale >= 1 else 3
    with scratch() as directory:
        store = Ehub(directory, DIMS, "ip")
        store.put(keys, vectors)
        store.hub.checkpoint()
        found = [
            bandwidth_claim(store, vectors, directory, rounds),
            batch_claim(store, keys, vectors, max(3, rounds // 3)),
        ]
        store.close()
    return found
