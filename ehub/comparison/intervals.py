"""From values measured on a sample to a figure with a 95 % interval.

Each way says of which population the interval speaks: one from which the sampled keys were drawn.
Where all keys were sampled it says how much the figure would differ for other keys of their kind.

- *bootstrap*: percentiles over 1,000 resamples of the keys (Efron 1979), drawn with the caller's
  seed. Where all values are the same it has no width.
- *jackknife*: value +- 1.96 standard errors, from leaving out each key in turn (Arvesen 1969); for
  means over pairs of keys, which resampling would bias by pairing keys with themselves.
- *normal*: mean +- 1.96 standard errors of the mean.
- *Wilson*: the score interval of a share (Wilson 1927), good near 0 and 1 too.
- *order statistics*: of a quantile, the values between which it lies for any distribution.
- *DKW*: how far empirical distributions can be from the true ones, for any distribution
  (Dvoretzky, Kiefer and Wolfowitz 1956, with Massart's constant, 1990).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ehub.estimate import Estimate

__all__ = [
    "bootstrap",
    "bootstrap_mean",
    "counted",
    "jackknife",
    "kolmogorov_smirnov",
    "normal_mean",
    "quantile",
    "undefined",
    "wilson",
]

Floats = NDArray[np.float64]

RESAMPLES = 1_000
RESAMPLED_AT_ONCE = 1 << 19  # places
TAILS = (2.5, 97.5)  # percent
Z = 1.959963984540054  # of the normal distribution, 2.5 % lie beyond it on either side
KOLMOGOROV_TERMS = 100


def undefined(note: str, n: int = 0) -> Estimate:
    """No figure, and why."""
    return Estimate(None, None, None, n, "", note)


def counted(hits: int, total: int) -> Estimate:
    """A share that was counted, not sampled."""
    if total == 0:
        return undefined("no keys")
    share = hits / total
    return Estimate(share, share, share, total, "exact")


def bootstrap(
    n: int, statistic: Callable[[NDArray[np.intp]], Floats], seed: int, note: str = ""
) -> Estimate:
    """Any figure of n keys.

    `statistic` gets the places of keys that count, some repeated, in each row of int[m, n], and
    gives float64[m].
    """
    random = np.random.default_rng(seed)
    each = max(1, RESAMPLED_AT_ONCE // n)
    again = [
        statistic(random.integers(0, n, (min(each, RESAMPLES - done), n)))
        for done in range(0, RESAMPLES, each)
    ]
    low, high = np.percentile(np.concatenate(again), TAILS)
    value = float(statistic(np.arange(n)[np.newaxis])[0])
    return Estimate(value, float(low), float(high), n, "bootstrap", note)


def bootstrap_mean(values: Floats, seed: int, note: str = "") -> Estimate:
    """The mean of a value per key."""
    return bootstrap(len(values), lambda chosen: values[chosen].mean(axis=1), seed, note)


def jackknife(value: float, left_out: Floats, note: str = "", most: float = math.inf) -> Estimate:
    """A figure, and what it is without each of the keys; it lies between -`most` and `most`."""
    n = len(left_out)
    error = math.sqrt((n - 1) / n * float(((left_out - left_out.mean()) ** 2).sum()))
    low, high = max(-most, value - Z * error), min(most, value + Z * error)
    return Estimate(value, low, high, n, "jackknife", note)


def normal_mean(values: Floats) -> Estimate:
    """The mean of many independent values."""
    n = len(values)
    if n < 2:
        return undefined("fewer than 2 rows", n)
    mean, error = float(values.mean()), float(values.std(ddof=1)) / math.sqrt(n)
    return Estimate(mean, mean - Z * error, mean + Z * error, n, "normal")


def wilson(hits: int, n: int, note: str = "") -> Estimate:
    """A share of n independent keys."""
    share = hits / n
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    width = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    low, high = max(0.0, middle - width), min(1.0, middle + width)
    # At the ends rounding must not put the share outside.
    return Estimate(share, min(low, share), max(high, share), n, "Wilson", note)


def quantile(values: Floats, share: float, note: str = "") -> Estimate:
    """The value below which `share` of the population lies."""
    n = len(values)
    width = Z * math.sqrt(n * share * (1 - share))
    ordered = np.sort(values)
    low = ordered[max(0, math.floor(n * share - width) - 1)]
    high = ordered[min(n - 1, math.ceil(n * share + width))]
    value = float(np.quantile(ordered, share))
    return Estimate(value, float(low), float(high), n, "order statistics", note)


def kolmogorov_smirnov(a: Floats, b: Floats) -> tuple[Estimate, float]:
    """The largest distance of two empirical distributions, and how likely that is by chance.

    The p-value is that of Kolmogorov's limit with Stephens' correction for small samples (1970). It
    takes the samples for independent; where they share keys it is rather too large than too small.
    """
    n, m = len(a), len(b)
    a, b = np.sort(a), np.sort(b)
    places = np.concatenate([a, b])
    below_a = np.searchsorted(a, places, side="right") / n
    below_b = np.searchsorted(b, places, side="right") / m
    statistic = float(np.abs(below_a - below_b).max())
    # Both bands hold at once with 95 %: each with 97.5 %.
    width = sum(math.sqrt(math.log(2 / 0.025) / (2 * size)) for size in (n, m))
    low, high = max(0.0, statistic - width), min(1.0, statistic + width)
    return Estimate(statistic, low, high, min(n, m), "DKW"), kolmogorov_p(statistic, n, m)


def kolmogorov_p(statistic: float, n: int, m: int) -> float:
    """The chance that two samples of one distribution are at least so far apart."""
    size = math.sqrt(n * m / (n + m))
    scaled = (size + 0.12 + 0.11 / size) * statistic
    if scaled < 0.2:  # the series needs ever more terms towards 0, where the sum is 1
        return 1.0
    terms = np.arange(1, KOLMOGOROV_TERMS + 1)
    series = 2 * ((-1.0) ** (terms - 1) * np.exp(-2 * (terms * scaled) ** 2)).sum()
    return float(np.clip(series, 0, 1))
