"""Comparing views: how far two models, or two points in time, agree about the same keys.

`compare()` measures, `drift()` does so against a baseline, `align()` fits a map by which queries of
one model search the index of another. All work on any two views with keys of one type.
"""

from ehub.comparison.fitting import align
from ehub.comparison.measuring import STEPS, compare, drift, drifted
from ehub.comparison.result import Comparison
from ehub.comparison.sampling import Plan
from ehub.comparison.series import Drift, Moment

__all__ = [
    "STEPS",
    "Comparison",
    "Drift",
    "Moment",
    "Plan",
    "align",
    "compare",
    "drift",
    "drifted",
]
