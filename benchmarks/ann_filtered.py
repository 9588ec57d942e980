"""Searches among some of the rows: what the chosen way costs beside a scan, and what it finds.

All queries in one call, keys chosen by chance or one after the other. The time of both ways
includes finding the keys. Recall is against that scan.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median

import numpy as np

import ehub
from benchmarks.harness import SEED, Claim, timed
from ehub.bench.contenders import Ehub
from ehub.bench.data import Trial
from ehub.neighbors import Neighbors
from ehub.types import KeyArray

SHARES = (0.5, 0.25, 0.1, 0.05, 0.01, 0.001)
QUERIES = 500

# A filtered search may choose badly between two ways that cost nearly the same.
SLOWER_MOST = 1.2
RECALL_LEAST = 0.95


def filter_claims(trial: Trial, k: int, rounds: int, directory: Path) -> Iterator[Claim]:
    """For each share of the rows, by the index that was built last: time and recall."""
    contender = Ehub()
    contender.load(directory / Ehub.name, trial.rows, trial.metric)
    n = len(trial.rows)
    shuffled = np.random.default_rng(SEED).permutation(n)
    for share in SHARES:
        count = max(k, int(n * share))
        name = f"{trial.name}: among {share * 100:g} %"
        chosen = np.sort(shuffled[:count])
        yield from among(f"{name} by chance", contender.space, trial, chosen, k, rounds)
        chosen = np.arange(n // 3, n // 3 + count)
        yield from among(f"{name} in a row", contender.space, trial, chosen, k, rounds)
    contender.close()


def among(
    name: str, space: ehub.Space, trial: Trial, keys: KeyArray, k: int, rounds: int
) -> Iterator[Claim]:
    """Two claims of the searches among some keys."""
    queries = trial.queries[:QUERIES]

    def ask(exact: bool) -> list[Neighbors]:
        return space.multi_nearest_neighbors(k, vectors=queries, filter=keys, exact=exact)

    found = recall(ask(False), ask(True))
    times: list[tuple[float, float]] = [
        (timed(lambda: ask(False)), timed(lambda: ask(True))) for _ in range(rounds)
    ]
    ours, scan = (median(each) / len(queries) * 1e6 for each in zip(*times, strict=True))
    note = f"recall {found:.3f}"
    yield Claim(f"{name}, to a scan", ours, scan, "us", ours / scan, SLOWER_MOST, False, note)
    yield Claim(f"{name}: recall", found, 1.0, "", found, RECALL_LEAST)


def recall(found: list[Neighbors], truth: list[Neighbors]) -> float:
    """The share of the true neighbors, or of rows as near, that were found."""
    hits = sum(
        int((ours.distances <= exact.distances[-1]).sum())
        for ours, exact in zip(found, truth, strict=True)
    )
    return hits / sum(len(exact) for exact in truth)
