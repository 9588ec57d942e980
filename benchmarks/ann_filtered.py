"""Searches among some of the rows: what the chosen way costs beside a scan, and what it finds.

All queries in one call, keys chosen by chance or one after the other; and the rows farthest from
each query. The time of both ways includes finding the keys. Recall is against that scan.
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
FARTHEST_SHARES = (0.9, 0.75, 0.5, 0.25, 0.1)
QUERIES = 500
QUERIES_OF_HOLE = 40

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
    for share in FARTHEST_SHARES:
        yield hole_claim(contender.space, trial, share, k)
    contender.close()


def hole_claim(space: ehub.Space, trial: Trial, share: float, k: int) -> Claim:
    """Recall where those rows pass that are farthest from a query; one filter for each query."""
    pairs: list[tuple[list[Neighbors], list[Neighbors]]] = []
    for query in trial.queries[:QUERIES_OF_HOLE]:
        products = trial.rows @ query
        nearness = 2 * products - (trial.rows**2).sum(axis=1) if trial.metric == "l2" else products
        passing = np.sort(np.argsort(nearness)[: int(len(trial.rows) * share)])
        found, exact = (
            space.multi_nearest_neighbors(k, vectors=query[None], filter=passing, exact=way)
            for way in (False, True)
        )
        pairs.append((found, exact))
    value = float(np.mean([recall(found, exact) for found, exact in pairs]))
    name = f"{trial.name}: among the {share * 100:g} % farthest from each query: recall"
    return Claim(name, value, 1.0, "", value, RECALL_LEAST)


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
