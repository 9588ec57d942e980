"""What a version must show before an alias may lead to it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ehub import _arrays
from ehub._progress import Bar
from ehub.comparison import Comparison, compare
from ehub.errors import ConflictError, InvalidArgumentError
from ehub.index import as_near
from ehub.types import Vectors

if TYPE_CHECKING:
    from ehub.version import Version

__all__ = ["Check", "PromotionBlocked", "as_queries", "as_required", "measure"]

# By the name of a requirement: the figure of a comparison that it is about.
FIGURES = {
    "coverage": "coverage.a",
    "overlap": "overlap",
    "rbo": "rbo",
    "cka": "cka",
    "aligned_recall": "aligned_recall",
}
WITHOUT_K = ("coverage", "cka")
K = 10
RECALL_QUERIES = 200


@dataclass(frozen=True, slots=True)
class Check:
    """One requirement: what was measured, and how much it had to be. None: it has no value."""

    name: str
    value: float | None
    least: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether it is enough."""
        return self.value is not None and self.value >= self.least

    def __str__(self) -> str:
        value = "has no value" if self.value is None else f"is {self.value:.4g}"
        note = f" ({self.note})" if self.note else ""
        return f"{self.name} {value}, at least {self.least:.4g} is required{note}"


class PromotionBlocked(ConflictError):
    """A version is not good enough: `checks` has every figure, `failed` those too small."""

    def __init__(self, alias: str, version: str, checks: tuple[Check, ...]) -> None:
        self.checks = checks
        self.failed = tuple(check for check in checks if not check.passed)
        reasons = "; ".join(map(str, self.failed))
        super().__init__(f"{alias!r} was not moved to version {version!r}: {reasons}")


def measure(
    current: Version,
    target: Version,
    require: Mapping[str, float],
    queries: Vectors | None,
    sample: int,
    seed: int,
    shown: Bar,
) -> tuple[Check, ...]:
    """Every requirement against what the two versions show."""
    wanted = [(name, *parsed(name), least) for name, least in require.items()]
    comparisons: dict[int, Comparison] = {}

    def compared(k: int) -> Comparison:
        if k not in comparisons:
            named = (current.name, target.name)
            with current.snapshot() as old, target.snapshot() as new:
                comparisons[k] = compare(old, new, k=k, sample=sample, seed=seed, names=named)
        return comparisons[k]

    checks = []
    for name, figure, k, least in wanted:
        checks.append(
            check_recall(target, name, k, least, queries)
            if figure == "recall"
            else check_figure(compared, name, figure, k, least)
        )
        shown.update(1)
    return tuple(checks)


def check_figure(
    compared: Callable[[int], Comparison], name: str, figure: str, k: int, least: float
) -> Check:
    """A requirement on a figure of a comparison."""
    estimate = compared(k).statistics()[FIGURES[figure]]
    return Check(name, estimate.value, least, estimate.note)


def check_recall(
    target: Version, name: str, k: int, least: float, queries: Vectors | None
) -> Check:
    """A requirement on the index of the new version."""
    if queries is None:
        report = target.measure_recall(k, RECALL_QUERIES)
        return Check(name, report.recall, least, f"around {report.sample} of its rows")
    found = target.multi_nearest_neighbors(k, vectors=queries)
    truth = target.multi_nearest_neighbors(k, vectors=queries, exact=True)
    pairs = zip(found, truth, strict=True)
    near = sum(as_near(answer.distances, exact.distances) for answer, exact in pairs)
    total = sum(map(len, truth))
    return Check(name, near / total if total else None, least, f"{len(queries)} queries")


def as_queries(queries: Any, target: Version) -> Vectors:
    """The queries of a version's recall, as its rows are."""
    return _arrays.as_vectors(queries, target.dims, target._table.space, "query vector")


def as_required(require: object) -> dict[str, float]:
    """The bounds of requirements, by name."""
    if require is None:
        return {}
    if not isinstance(require, Mapping):
        raise TypeError(
            f"require is {require!r:.100}; expected a mapping such as {{'coverage': 1.0}}"
        )
    return {str(name): as_least(name, least) for name, least in require.items()}


def parsed(name: str) -> tuple[str, int]:
    """The figure and k of a requirement's name."""
    match = re.fullmatch(r"([a-z_]+?)(?:_at_([1-9][0-9]{0,3}))?", str(name))
    figure = match.group(1) if match else ""
    if match is None or (figure != "recall" and figure not in FIGURES):
        raise InvalidArgumentError(
            f"{name!r:.100} cannot be required; expected coverage, cka, overlap_at_<k>, "
            "rbo_at_<k>, aligned_recall_at_<k> or recall_at_<k>"
        )
    if match.group(2) and figure in WITHOUT_K:
        raise InvalidArgumentError(f"{figure} is of no k: require {figure!r}, not {name!r}")
    return figure, int(match.group(2) or K)


def as_least(name: str, least: object) -> float:
    """The bound of a requirement."""
    if isinstance(least, bool) or not isinstance(least, (int, float)):
        raise TypeError(f"{name} is to be at least {least!r:.50}; expected a number")
    if not np.isfinite(least):
        raise InvalidArgumentError(f"{name} is to be at least {least}; expected a finite number")
    return float(least)
