"""What every benchmark shares: a claim with its baseline, scratch directories, data, clocks.

A claim is a ratio of two figures that were measured in turn, in one run, on the same work, the
result of which was checked. Nothing else should run meanwhile: a compiler on another core bends
even ratios.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

DIMS = 384
SEED = 20261123


@dataclass
class Claim:
    """One line of the report: ours against a baseline, and the ratio that was aimed at."""

    name: str
    ours: float
    baseline: float
    unit: str
    ratio: float
    target: float
    at_least: bool = True
    note: str = ""
    others: dict[str, float] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        """Whether the ratio is on the right side of its target."""
        return self.ratio >= self.target if self.at_least else self.ratio <= self.target


def faster(
    name: str, ours: list[float], baseline: list[float], target: float, unit: str, **more: object
) -> Claim:
    """Our rate is at least `target` times the baseline's: medians of interleaved runs."""
    mine, theirs = statistics.median(ours), statistics.median(baseline)
    return Claim(name, mine, theirs, unit, mine / theirs, target, True, **more)  # type: ignore[arg-type]


def at_most(name: str, ours: float, limit: float, unit: str, note: str = "") -> Claim:
    """A claim that a figure of ours is below a fixed limit."""
    return Claim(name, ours, limit, unit, ours / limit, 1.0, False, note)


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory on the disk that is measured: $EHUB_BENCH_DIR, or the current one."""
    root = Path(os.environ.get("EHUB_BENCH_DIR", "."))
    directory = Path(tempfile.mkdtemp(prefix="ehub-bench-", dir=root))
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def settle() -> None:
    """Lets earlier work reach the disk, so that it does not count for what is measured next."""
    gc.collect()
    os.sync()
    time.sleep(0.5)


def stolen_seconds() -> float:
    """Seconds of the cores that whoever runs this virtual machine has kept for others so far."""
    steal = Path("/proc/stat").read_text().split(maxsplit=9)[8]
    return int(steal) / os.sysconf("SC_CLK_TCK")


def rows_of(n: int, dims: int = DIMS) -> tuple[list[str], np.ndarray]:
    """`n` keys and float32[n, dims] random vectors, the same in every run."""
    rng = np.random.default_rng(SEED)
    vectors = rng.standard_normal((n, dims), dtype=np.float32)
    return [f"item-{i:08d}" for i in range(n)], vectors


def timed(work: Callable[[], object]) -> float:
    """Seconds that `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
