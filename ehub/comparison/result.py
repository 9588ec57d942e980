"""What a comparison found: figures with intervals, as attributes, a table, JSON and a page."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ehub.alignment import ViewInfo
from ehub.comparison.intervals import Floats
from ehub.comparison.wording import MEANINGS
from ehub.estimate import Estimate
from ehub.types import Key, KeyType

__all__ = ["COLUMNS", "Comparison", "Details", "Mover", "Pair"]

Kind = Literal["comparison", "drift"]
# A column of numbers ends in a space: it is aligned to the right.
COLUMNS = ("figure", "value ", "from ", "to ", "n ", "note")
NONE = "-"


@dataclass(frozen=True, slots=True)
class Pair:
    """A figure of each of the two views."""

    a: Estimate
    b: Estimate


@dataclass(frozen=True, slots=True)
class Mover:
    """A key whose vector moved far: 1 - cosine, and how much of its neighbours it kept."""

    key: Key
    shift: float
    overlap: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Details:
    """Values per key, for plots.

    Attributes:
        overlaps: Per sampled key, or None.
        recalls: Per held-out key, through the map; or None.
        unmapped: The same without a map, where dims agree; or None.
        cosine_shifts: Ascending; or None where dims differ.
        l2_shifts: And Euclidean.
        norms: Of the samples of each view.
        occurrences: How often the rows of these are among the k neighbours of others.
        points: float64[n, 2] of each view: held-out rows of a, mapped, and of b; or None.
        variance: The shares of b's variance in the two directions.
    """

    overlaps: Floats | None
    recalls: Floats | None
    unmapped: Floats | None
    cosine_shifts: Floats | None
    l2_shifts: Floats | None
    norms: tuple[Floats, Floats]
    occurrences: tuple[Floats, Floats]
    points: tuple[Floats, Floats] | None
    variance: Floats


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two views differ; each figure is an `Estimate` with its sample size and 95 % interval.

    Attributes:
        kind: "comparison", or "drift" of a view (b) against its baseline (a).
        a: The first view.
        b: The second.
        rows: How many rows each has.
        key_type: Of both.
        k: The number of neighbours that count.
        sample: How many keys were to be sampled at most.
        sampled: How many keys of both were.
        seed: Which.
        exact: Whether neighbours were found by scanning all rows, not by the index.
        common: How many keys are in both.
        coverage: The share of a's keys that b has, and of b's that a has. Counted, not sampled.
        overlap: The share of a key's k neighbours in a that are its neighbours in b, both among the
            common keys: |intersection| / k, the mean over the sampled keys.
        rbo: Rank-biased overlap of the same lists, p = 0.9, extrapolated from depth k.
        cka: Linear centred kernel alignment, unbiased.
        residual: Of the map from a to b that `align()` fits, on the half of the sample that it was
            not fitted on.
        aligned_recall: On that half, the share of a key's k neighbours in b (among all its rows)
            that its vector of a finds in b, mapped.
        unaligned_recall: The same without a map, where dims agree.
        cosine_shift: Quantiles ("p5" to "p95") of 1 - cosine of a key's two vectors.
        l2_shift: And of their Euclidean distance.
        centroid_shift: The distance of the two means, in spreads of a.
        norms: The mean length of the vectors.
        norm_ks: The two-sample Kolmogorov-Smirnov statistic of the lengths.
        norm_p_value: And its p-value; None where it is not defined.
        hubness: The skewness of how often rows are among the k neighbours of others.
        antihubs: The share of rows that never are.
        duplicates: The share of rows with a near-duplicate.
        anisotropy: The mean cosine of two random rows.
        movers: The ten keys that moved most, where dims agree.
        details: Values per key.
    """

    kind: Kind
    a: ViewInfo
    b: ViewInfo
    rows: tuple[int, int]
    key_type: KeyType
    k: int
    sample: int
    sampled: int
    seed: int
    exact: bool
    common: int
    coverage: Pair
    overlap: Estimate
    rbo: Estimate
    cka: Estimate
    residual: Estimate
    aligned_recall: Estimate
    unaligned_recall: Estimate
    cosine_shift: dict[str, Estimate]
    l2_shift: dict[str, Estimate]
    centroid_shift: Estimate
    norms: Pair
    norm_ks: Estimate
    norm_p_value: float | None
    hubness: Pair
    antihubs: Pair
    duplicates: Pair
    anisotropy: Pair
    movers: tuple[Mover, ...]
    details: Details = field(repr=False, compare=False)

    @property
    def removed(self) -> int:
        """How many keys only a has."""
        return self.rows[0] - self.common

    @property
    def added(self) -> int:
        """How many keys only b has."""
        return self.rows[1] - self.common

    @property
    def names(self) -> tuple[str, str]:
        """What to call the two in a text: by their names, where those differ."""
        if self.a.name != self.b.name:
            return self.a.name, self.b.name
        return ("baseline", "now") if self.kind == "drift" else ("a", "b")

    def statistics(self) -> dict[str, Estimate]:
        """All figures by name: "overlap", "coverage.a", "cosine_shift.p50" ..."""
        return {name: estimate for figure in MEANINGS for name, estimate in self._parts(figure)}

    def _parts(self, figure: str) -> Iterator[tuple[str, Estimate]]:
        value = getattr(self, figure)
        if isinstance(value, Estimate):
            yield figure, value
        elif isinstance(value, Pair):
            yield f"{figure}.a", value.a
            yield f"{figure}.b", value.b
        else:
            yield from ((f"{figure}.{share}", estimate) for share, estimate in value.items())

    def to_dict(self) -> dict[str, Any]:
        """Everything but the values per key, for JSON."""
        return {
            "kind": self.kind,
            "a": view_document(self.a, self.rows[0]),
            "b": view_document(self.b, self.rows[1]),
            "key_type": self.key_type,
            "k": self.k,
            "sample": self.sample,
            "sampled": self.sampled,
            "seed": self.seed,
            "exact": self.exact,
            "common": self.common,
            "added": self.added,
            "removed": self.removed,
            "norm_p_value": self.norm_p_value,
            "statistics": {name: one.to_dict() for name, one in self.statistics().items()},
            "movers": [
                {"key": one.key, "shift": one.shift, "overlap": one.overlap} for one in self.movers
            ],
        }

    def title_of(self, name: str) -> str:
        """A figure of `statistics()` in words: "hubness of 'initial'"."""
        figure, _, part = name.partition(".")
        title = MEANINGS[figure].title.format(k=self.k)
        if part in ("a", "b"):
            return f"{title}, {self.names[part == 'b']}"
        return f"{title}, {part}" if part else title

    def table(self) -> list[list[object]]:
        """A row for each figure, for `COLUMNS`."""
        return [
            [
                self.title_of(name),
                *(NONE if x is None else number(x) for x in (one.value, one.low, one.high)),
                f"{one.n:,}",
                one.note,
            ]
            for name, one in self.statistics().items()
        ]

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write one HTML file with plots and all figures; it needs nothing beside it.

        Needs matplotlib: `pip install 'ehub[report]'`.
        """
        from ehub.comparison.report import write  # which knows this module

        write(self, path)

    def __str__(self) -> str:
        first, second = self.names
        head = [
            f"{self.kind}: {first} -> {second}",
            *(
                f"  {name}: {rows:,} rows, {info.dims} dims, {info.metric}"
                for name, info, rows in zip(self.names, (self.a, self.b), self.rows, strict=True)
            ),
            f"  keys in both {self.common:,}, only in {first} {self.removed:,}, "
            f"only in {second} {self.added:,}; {self.sampled:,} sampled, k = {self.k}, "
            f"seed {self.seed}; from, to: 95 %",
            "",
        ]
        return "\n".join([*head, *aligned(COLUMNS, self.table())])


def view_document(info: ViewInfo, rows: int) -> dict[str, Any]:
    """One of the views, for JSON."""
    return {"name": info.name, "rows": rows, "dims": info.dims, "metric": info.metric}


def number(value: float) -> str:
    """A figure for people."""
    if value == 0 or abs(value) >= 0.0001:
        return f"{value:.4f}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.1e}"


def aligned(columns: tuple[str, ...], rows: list[list[object]]) -> Iterator[str]:
    """The lines of a table in letters of one width."""
    cells = [[column.strip() for column in columns], *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        padded = (
            cell.rjust(width) if column.endswith(" ") else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        )
        yield "  ".join(padded).rstrip()


def top_movers(
    keys: Any, shifts: Floats, overlaps: Floats | None, count: int = 10
) -> tuple[Mover, ...]:
    """The keys that moved most; of equal ones the smaller key."""
    order = np.argsort(-shifts, kind="stable")[:count]
    return tuple(
        Mover(
            keys[place] if isinstance(keys[place], str) else int(keys[place]),
            float(shifts[place]),
            None if overlaps is None else float(overlaps[place]),
        )
        for place in order
    )
