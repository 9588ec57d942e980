"""Asking all contenders in turn, and what their figures say at equal recall.

A round goes through the settings, and for each setting through the contenders, so that whatever the
machine does meanwhile, it does to all of them. Each contender answers the queries one a call in one
thread, pinned to one core, and then all in one call on several cores; a part of them it answers
before that, untimed, because the caches hold what the contender before it read. Around the recalls
at which contenders are compared, settings between those of the plan are asked for, too, of each
contender its own. A figure is the median of the rounds; a ratio is the median of the ratios of each
round.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ehub.bench.building import Built, Failed, build_apart
from ehub.bench.contenders import BASELINE, Contender, as_ids, quiet
from ehub.bench.data import Trial, recall, true_distances
from ehub.types import Vectors

__all__ = [
    "EFS",
    "RECALL_ENOUGH",
    "TARGETS",
    "Outcome",
    "Plan",
    "Point",
    "Progress",
    "Ratio",
    "Reading",
    "Run",
    "at_recall",
    "baseline_of",
    "pareto",
    "points_of",
    "ratio_at",
    "reading_of",
    "run",
]

EFS = (10, 12, 16, 20, 28, 40, 56, 80, 112, 160, 224, 320, 450, 640, 900, 1280)
TARGETS = (0.9, 0.95, 0.99)
RECALL_ENOUGH = 0.9995  # beyond it nobody looks, and the settings that get there take longest

# Of the queries, the share that is answered before time is taken.
WARM_SHARE = 4

# Two settings are close enough to a recall between them if they differ by one, or by so little.
CLOSE_SHARE = 16

# A recall of 1 has no logarithm of its distance to 1; so few queries cannot tell it from this.
MISSED_LEAST = 1e-5


class Progress(Protocol):
    """What hears how far a run is."""

    def update(self, n: int) -> object:
        """`n` more steps are done."""

    def set_description(self, desc: str) -> object:
        """What is done now."""


@dataclass(frozen=True)
class Plan:
    """How a trial is run."""

    k: int = 10
    efs: tuple[int, ...] = EFS
    rounds: int = 3
    threads: int = 1
    recall_enough: float | None = RECALL_ENOUGH  # a contender that has it is asked no larger ef
    targets: tuple[float, ...] = TARGETS  # recalls around which settings in between are asked for

    def steps(self, contenders: int) -> int:
        """How many steps a run of so many contenders tells its progress in; `efs` alone count."""
        return contenders * (1 + len(self.efs) * self.rounds)


@dataclass
class Point:
    """One contender at one setting: a figure for each round."""

    ef: int
    recall: float = 0.0
    batch_recall: float = 0.0
    qps: list[float] = field(default_factory=list)
    batch_qps: list[float] = field(default_factory=list)
    latencies: list[tuple[float, float, float]] = field(default_factory=list)  # p50, p95, p99 [s]


@dataclass
class Outcome:
    """All about one contender."""

    name: str
    version: str
    setting: str
    built: Built | None = None
    failure: str = ""
    points: dict[int, Point] = field(default_factory=dict)

    @property
    def measured(self) -> list[Point]:
        """The points that have figures, by rising ef."""
        return [point for _, point in sorted(self.points.items()) if point.qps]


@dataclass
class Run:
    """What a run found, complete or not."""

    trial: Trial
    plan: Plan
    outcomes: list[Outcome]
    complete: bool = False

    def outcome(self, name: str) -> Outcome | None:
        """That of one contender; None if it did not take part."""
        return next((outcome for outcome in self.outcomes if outcome.name == name), None)


Live: TypeAlias = list[tuple[Outcome, Contender]]


def run(
    trial: Trial,
    kinds: Sequence[type[Contender]],
    plan: Plan,
    directory: Path,
    progress: Progress,
) -> Run:
    """Build and ask all contenders; Ctrl-C ends it early and keeps what has been measured."""
    outcomes = [Outcome(kind.name, kind.version(), kind.setting) for kind in kinds]
    found = Run(trial, plan, outcomes)
    live: Live = []
    try:
        live.extend(built(trial, kinds, outcomes, plan, directory, progress))
        kth = true_distances(trial, plan.k)
        for number in range(plan.rounds):
            ask_round(trial, kth, plan, live, number, progress)
        found.complete = True
    except KeyboardInterrupt:
        pass
    finally:
        for _, contender in live:
            contender.close()
    return found


def built(
    trial: Trial,
    kinds: Sequence[type[Contender]],
    outcomes: Sequence[Outcome],
    plan: Plan,
    directory: Path,
    progress: Progress,
) -> Live:
    """All contenders, built one after the other, then loaded; one that cannot is left out."""
    rows = directory / "rows.npy"
    np.save(rows, trial.rows)
    live: Live = []
    for kind, outcome in zip(kinds, outcomes, strict=True):
        progress.set_description(f"building {kind.name}")
        try:
            if trial.metric not in kind.metrics:
                raise Failed(f"it does not search by {trial.metric}")
            place = directory / kind.name
            outcome.built = build_apart(kind.name, rows, trial.metric, plan.threads, place)
            live.append((outcome, kind()))
        except Failed as failed:
            outcome.failure = str(failed)
        progress.update(1)
    for outcome, contender in live:
        with quiet(), failure_noted(outcome):
            contender.load(directory / outcome.name, trial.rows, trial.metric)
            warm(trial, contender, plan)
    return [(outcome, contender) for outcome, contender in live if not outcome.failure]


@contextmanager
def failure_noted(outcome: Outcome) -> Iterator[None]:
    """What goes wrong within a library ends its part, not the run."""
    try:
        yield
    except Exception as error:
        outcome.failure = f"{type(error).__name__}: {error}"


def warm(trial: Trial, contender: Contender, plan: Plan) -> None:
    """Ask everything once: files are read and checked, caches and branches know their way."""
    search = contender.one(max(plan.efs), plan.k)
    for query in trial.queries:
        search(query)


def ask_round(
    trial: Trial,
    kth: NDArray[np.float64],
    plan: Plan,
    live: Live,
    number: int,
    progress: Progress,
) -> None:
    """One round; who is first changes from round to round."""
    first = number % max(1, len(live))
    for ef in sorted({*plan.efs, *(own for outcome, _ in live for own in outcome.points)}):
        progress.set_description(f"round {number + 1} of {plan.rounds}, ef {ef}")
        for outcome, contender in live[first:] + live[:first]:
            meant = ef in plan.efs or ef in outcome.points
            if meant and not outcome.failure and not enough(outcome, ef, plan):
                with failure_noted(outcome):
                    ask(trial, kth, plan, outcome, contender, ef)
            if ef in plan.efs:
                progress.update(1)
    if number == 0:
        ask_between(trial, kth, plan, live, progress)


def ask_between(
    trial: Trial, kth: NDArray[np.float64], plan: Plan, live: Live, progress: Progress
) -> None:
    """The rest of the first round: halves what lies between two settings around each target."""
    for outcome, contender in live:
        for target in plan.targets:
            while not outcome.failure and (ef := between(outcome, target)) is not None:
                progress.set_description(f"{outcome.name} around recall {target:g}, ef {ef}")
                with failure_noted(outcome):
                    ask(trial, kth, plan, outcome, contender, ef)


def between(outcome: Outcome, target: float) -> int | None:
    """The setting halfway between those around a recall; None if they are close, or not there."""
    below = max((point.ef for point in outcome.measured if point.recall < target), default=0)
    above = min((point.ef for point in outcome.measured if point.recall >= target), default=0)
    close = max(1, below // CLOSE_SHARE)
    return None if below == 0 or above - below <= close else (below + above) // 2


def enough(outcome: Outcome, ef: int, plan: Plan) -> bool:
    """Whether a contender finds as good as everything at a smaller setting."""
    limit = plan.recall_enough
    smaller = (point.recall for point in outcome.measured if point.ef < ef)
    return limit is not None and any(found >= limit for found in smaller)


def ask(
    trial: Trial,
    kth: NDArray[np.float64],
    plan: Plan,
    outcome: Outcome,
    contender: Contender,
    ef: int,
) -> None:
    """One contender at one setting: all queries one a call, then all in one call."""
    point = outcome.points.get(ef, Point(ef))
    with cores(1):
        search = contender.one(ef, plan.k)
        for query in trial.queries[: len(trial.queries) // WARM_SHARE]:
            search(query)
        answers, seconds = one_by_one(search, trial.queries)
    if not point.qps:
        ids = as_ids([contender.ids(answer) for answer in answers], plan.k)
        point.recall = recall(trial, kth, ids, plan.k)
    batch_qps = None
    with cores(plan.threads):
        search_many = contender.many(ef, plan.k, plan.threads)
        if search_many is not None:
            started = time.perf_counter()
            answer = search_many(trial.queries)
            batch_qps = len(trial.queries) / (time.perf_counter() - started)
            if not point.batch_qps:
                ids = as_ids(contender.ids_of_many(answer), plan.k)
                point.batch_recall = recall(trial, kth, ids, plan.k)
    # Together, at the end: an interrupted setting leaves nothing, and no round without its batch.
    p50, p95, p99 = (float(value) for value in np.percentile(seconds, (50, 95, 99)))
    point.latencies.append((p50, p95, p99))
    point.qps.append(len(seconds) / float(seconds.sum()))
    if batch_qps is not None:
        point.batch_qps.append(batch_qps)
    outcome.points[ef] = point


def one_by_one(
    search: Callable[[Vectors], Any], queries: Vectors
) -> tuple[list[Any], NDArray[np.float64]]:
    """The answers to all queries, one a call, and the seconds that each took."""
    answers = []
    seconds = np.empty(len(queries))
    clock = time.perf_counter
    for i, query in enumerate(queries):
        started = clock()
        answer = search(query)
        seconds[i] = clock() - started
        answers.append(answer)
    return answers, seconds


@contextmanager
def cores(count: int) -> Iterator[None]:
    """Keep this thread, and those that it starts, to so many of its cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# --- at equal recall ---


class Reading(NamedTuple):
    """Queries per second at a recall; a bound if only higher recalls were measured."""

    qps: float
    bound: bool


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (recall, queries per second) that no other beats in both; recall rises."""
    front: list[tuple[float, float]] = []
    for point in sorted(points, reverse=True):
        if not front or point[1] > front[-1][1]:
            front.append(point)
    return front[::-1]


def at_recall(points: Sequence[tuple[float, float]], target: float) -> Reading | None:
    """Queries per second at a recall: log q/s over log(1 - recall), between points of the front.

    Where the fastest point has a higher recall, its figure counts: it is a lower bound if no point
    has a lower recall, because what a smaller setting would do is not known. Where no point has as
    high a recall, there is no figure.
    """
    front = pareto(points)
    if not front or front[-1][0] < target:
        return None
    if front[0][0] >= target:
        return Reading(front[0][1], min(found for found, _ in points) > target)
    above = next(i for i, (found, _) in enumerate(front) if found >= target)
    (low, fast), (high, slow) = front[above - 1], front[above]
    span = missed(high) - missed(low)
    share = (missed(target) - missed(low)) / span if span else 1.0
    return Reading(float(np.exp(np.log(fast) + share * (np.log(slow) - np.log(fast)))), False)


def missed(found: float) -> float:
    """The logarithm of the share that was missed."""
    return float(np.log(max(1 - found, MISSED_LEAST)))


def points_of(
    outcome: Outcome, batch: bool, number: int | None = None
) -> list[tuple[float, float]]:
    """Recall and queries per second of one round, or the medians of all."""
    points = []
    for point in outcome.measured:
        rates = point.batch_qps if batch else point.qps
        found = point.batch_recall if batch else point.recall
        if number is None and rates:
            points.append((found, median(rates)))
        elif number is not None and number < len(rates):
            points.append((found, rates[number]))
    return points


def reading_of(outcome: Outcome, target: float, *, batch: bool = False) -> Reading | None:
    """A contender's queries per second at a recall, from the medians of its rounds."""
    return at_recall(points_of(outcome, batch), target)


class Ratio(NamedTuple):
    """How many times as fast; `sign` says what is known: "" , ">=", "<=" or, of two bounds, "~"."""

    value: float
    sign: str


def ratio_at(
    outcome: Outcome, baseline: Outcome | None, target: float, *, batch: bool = False
) -> Ratio | None:
    """How many times as fast as the baseline at equal recall: the median of the rounds' ratios."""
    mine = reading_of(outcome, target, batch=batch)
    other = None if baseline is None else reading_of(baseline, target, batch=batch)
    if baseline is None or mine is None or other is None:
        return None
    ratios = []
    # Of an interrupted run only the rounds that every setting took part in.
    for number in range(min((len(point.qps) for point in outcome.measured), default=0)):
        ours = at_recall(points_of(outcome, batch, number), target)
        theirs = at_recall(points_of(baseline, batch, number), target)
        if ours is not None and theirs is not None:
            ratios.append(ours.qps / theirs.qps)
    if not ratios:
        return None
    return Ratio(median(ratios), sign_of(mine.bound, other.bound))


def sign_of(ours: bool, theirs: bool) -> str:
    """What a ratio of two figures is, of which some are lower bounds."""
    if ours and theirs:
        return "~"
    return ">=" if ours else "<=" if theirs else ""


def baseline_of(found: Run) -> Outcome | None:
    """What the others are compared with, if it took part and was measured."""
    outcome = found.outcome(BASELINE)
    return outcome if outcome is not None and outcome.measured else None
