"""The index against hnswlib at equal recall, and what else it promises.

For each set of `ann_data`, `ehub.bench` builds both and asks them in turn; recall is tie-aware,
against exact search, for k = 10, through the Python API of each. hnswlib has M=16 and
ef_construction=200, this library its defaults. Ratios are medians of the rounds' ratios. What a
claim of build time compares is more than a build for us: from the first row, stored durably, to a
settled space; for hnswlib the build alone.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.ann_data import SETS
from benchmarks.ann_filtered import filter_claims
from benchmarks.ann_growth import growth_claims, ingest_claims
from benchmarks.harness import Claim, at_most, faster, scratch
from ehub.bench.contenders import Ehub, Hnswlib
from ehub.bench.data import Trial, prepared
from ehub.bench.measure import (
    Outcome,
    Plan,
    baseline_of,
    cores,
    one_by_one,
    ratio_at,
    reading_of,
    run,
)

K = 10
THREADS = 2
EF = 40  # at which calls and cores are compared


@dataclass(frozen=True)
class Floor:
    """The least ratios to hnswlib that were aimed at; of build and bytes the greatest."""

    at_95: float
    at_99: float
    batch_at_99: float
    build: float
    bytes: float


FLOORS = {
    "fashion": Floor(2.9, 3.7, 3.8, 0.4, 0.35),
    "wordnet": Floor(3.3, 3.8, 3.7, 0.4, 0.37),
    "text": Floor(2.8, 3.6, 3.6, 0.45, 0.50),
    # Not aimed at anywhere: as of text, which is the least of the others.
    "long-768": Floor(2.8, 3.6, 3.6, 0.45, 0.50),
    "long-1536": Floor(2.8, 3.6, 3.6, 0.45, 0.50),
}


# What a ratio's sign says of it.
BOUNDS = {
    "": "",
    ">=": "at least: even our smallest ef has a higher recall",
    "<=": "at most: even hnswlib's smallest ef has a higher recall",
    "~": "of the smallest efs, which both have a higher recall",
}


class Silence:
    """Nobody watches the progress."""

    def update(self, n: int) -> None:
        """Say nothing."""

    def set_description(self, desc: str) -> None:
        """Say nothing."""


def set_claims(trial: Trial, floor: Floor, rounds: int, directory: Path) -> Iterator[Claim]:
    """One set: the lines of the table."""
    plan = Plan(K, rounds=rounds, threads=THREADS)
    found = run(trial, [Ehub, Hnswlib], plan, directory, Silence())
    if not found.complete:
        raise KeyboardInterrupt
    ours, theirs = found.outcomes[0], baseline_of(found)
    if ours.failure or theirs is None or ours.built is None or theirs.built is None:
        raise AssertionError(f"{trial.name}: {[outcome.failure for outcome in found.outcomes]}")
    for target, batch, least in (
        (0.95, False, floor.at_95),
        (0.99, False, floor.at_99),
        (0.99, True, floor.batch_at_99),
    ):
        yield from speed_claim(trial.name, ours, theirs, target, batch, least)
    yield quotient(
        f"{trial.name}: from the first row to a settled index, to hnswlib's build",
        (ours.built.seconds, theirs.built.seconds),
        "s",
        floor.build,
    )
    sizes = (ours.built.index_bytes or 1, theirs.built.index_bytes)
    yield quotient(
        f"{trial.name}: index beyond the vectors, to hnswlib's file", sizes, "bytes", floor.bytes
    )


def speed_claim(
    name: str, ours: Outcome, theirs: Outcome, target: float, batch: bool, least: float
) -> Iterator[Claim]:
    """Queries per second at one recall; none, and a word about it, if one does not reach it."""
    mine, other = (reading_of(outcome, target, batch=batch) for outcome in (ours, theirs))
    ratio = ratio_at(ours, theirs, target, batch=batch)
    way = f"batch on {THREADS} threads" if batch else "one query a call"
    label = f"{name}: {way} at recall {target:g}, to hnswlib"
    if mine is None or other is None or ratio is None:
        print(f"no ratio: {label}: not reached by both", file=sys.stderr)
        return
    note = BOUNDS[ratio.sign]
    yield Claim(label, mine.qps, other.qps, "queries/s", ratio.value, least, note=note)


def quotient(name: str, figures: tuple[float, float], unit: str, most: float) -> Claim:
    """A figure of ours that is to be a small part of theirs."""
    ours, theirs = figures
    return Claim(name, ours, theirs, unit, ours / theirs, most, at_least=False)


def call_claims(trial: Trial, rounds: int, directory: Path) -> Iterator[Claim]:
    """What a second core and a call from Python cost, by the index that was built last.

    The search itself is the same in both ways of asking, and so is the thread. What a query takes
    in a call of its own, beyond its share of one call for all, is the price of the call: arguments
    checked, a view taken, an answer made.
    """
    contender = Ehub()
    contender.load(directory / Ehub.name, trial.rows, trial.metric)
    one_core: list[float] = []
    two_cores: list[float] = []
    overheads: list[float] = []
    one, many = contender.one(EF, K), contender.many(EF, K, THREADS)
    count = len(trial.queries)
    for _ in range(rounds + 1):
        with cores(1):
            _, seconds = one_by_one(one, trial.queries)
            _, [alone] = one_by_one(many, [trial.queries])  # type: ignore[arg-type]
        with cores(THREADS):
            _, [together] = one_by_one(many, [trial.queries])  # type: ignore[arg-type]
        one_core.append(count / alone)
        two_cores.append(count / together)
        overheads.append((seconds.sum() - alone) / count * 1e6)
    contender.close()
    yield faster("batch on two cores, to one core", two_cores[1:], one_core[1:], 1.9, "queries/s")
    overhead = max(median(overheads[1:]), 0.01)  # less is not told from nothing
    yield at_most("one nearest_neighbors() call beyond its search", overhead, 5.0, "us")


def claims(scale: float) -> Iterator[Claim]:
    """Everything; `scale` 1 is the full size."""
    rounds = 5 if scale >= 1 else 1
    calls_measured = False
    for name, source in SETS.items():
        trial = source(scale)
        if trial is None:
            continue
        with scratch() as directory:
            trial = prepared(trial, K, directory)
            yield from set_claims(trial, FLOORS[name], rounds, directory)
            if name == "wordnet":
                yield from filter_claims(trial, K, rounds, directory)
            if not calls_measured:
                yield from call_claims(trial, rounds, directory)
                calls_measured = True
    yield from growth_claims(scale)
    yield from ingest_claims(scale)
