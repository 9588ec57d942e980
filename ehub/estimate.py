"""A measured figure with its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["Estimate"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure measured on a sample, with a 95 % interval. It is never NaN.

    Attributes:
        value: The figure, or None where it is not defined; `note` then says why.
        low: Where the interval begins, or None if there is none.
        high: Where it ends.
        n: How many keys (or rows) it was measured on.
        interval: How the interval was made: "exact" (a count of everything), "bootstrap",
            "jackknife", "normal", "Wilson", "order statistics" or "DKW";
            `ehub.comparison.intervals` explains each.
        note: What else there is to know, such as rows that had to be left out.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    interval: str
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "n": self.n,
            "interval": self.interval,
            "note": self.note,
        }

    def __str__(self) -> str:
        if self.value is None:
            return f"undefined ({self.note})"
        if self.low is None or self.high is None:
            return f"{self.value:.4g} (n = {self.n:,})"
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}] (n = {self.n:,})"
