"""Drift over time: comparisons of several times with one baseline, as one result."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ehub.comparison.result import NONE, Comparison, aligned, number
from ehub.errors import InvalidArgumentError

__all__ = ["FIGURES", "Drift", "Moment"]

# What a line over time shows; the rest is in each comparison.
FIGURES = (
    "coverage.a",
    "overlap",
    "rbo",
    "cka",
    "aligned_recall",
    "cosine_shift.p50",
    "cosine_shift.p95",
    "centroid_shift",
    "norm_ks",
)


@dataclass(frozen=True, slots=True)
class Moment:
    """One time of a series.

    Args:
        seq: The last batch that it shows.
        created: When its tag was made (UTC, ISO 8601); empty if it has none.
        comparison: Of the baseline with it.
    """

    seq: int
    created: str
    comparison: Comparison

    @property
    def name(self) -> str:
        """The tag, or what else to call the time."""
        return self.comparison.names[1]


@dataclass(frozen=True, slots=True)
class Drift:
    """How a version has moved since a baseline, time by time; the last one is now.

    `print()` it, or write a page with the lines over time by its `report(path)`.
    """

    moments: tuple[Moment, ...]

    def __post_init__(self) -> None:
        if not self.moments:
            raise InvalidArgumentError("a drift of no times")

    @property
    def baseline(self) -> str:
        """What everything is measured from."""
        return self.latest.names[0]

    @property
    def latest(self) -> Comparison:
        """The baseline compared with the last time."""
        return self.moments[-1].comparison

    def to_dict(self) -> dict[str, Any]:
        """Everything but the values per key, for JSON."""
        return {
            "kind": "drift",
            "baseline": self.baseline,
            "moments": [
                {
                    "name": moment.name,
                    "seq": moment.seq,
                    "created": moment.created,
                    "comparison": moment.comparison.to_dict(),
                }
                for moment in self.moments
            ],
        }

    def table(self) -> list[list[object]]:
        """A row for each time: its name, the keys that came and went, and `FIGURES`."""
        return [
            [
                moment.name,
                f"{moment.comparison.added:,}",
                f"{moment.comparison.removed:,}",
                *(figure_text(moment.comparison, name) for name in FIGURES),
            ]
            for moment in self.moments
        ]

    def columns(self) -> tuple[str, ...]:
        """The heads of `table()`; that of a column of numbers ends in a space."""
        titles = (self.latest.title_of(name) for name in FIGURES)
        return ("time", "added ", "removed ", *(f"{title} " for title in titles))

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write one HTML file with lines over time, and all figures of the last time.

        Needs matplotlib: `pip install 'ehub[report]'`.
        """
        from ehub.comparison.drift_report import write  # which knows this module

        write(self, path)

    def __str__(self) -> str:
        if len(self.moments) == 1:
            return str(self.latest)
        lines = aligned(self.columns(), self.table())
        return "\n".join([f"drift from {self.baseline}", *lines, "", str(self.latest)])


def figure_text(found: Comparison, name: str) -> str:
    """A figure as a table has it."""
    value = found.statistics()[name].value
    return NONE if value is None else number(value)
