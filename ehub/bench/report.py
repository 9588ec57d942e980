"""What a run found, for people (tables) and for programs (one JSON document)."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

from ehub import __version__
from ehub.bench.contenders import CONTENDERS, Contender
from ehub.bench.measure import (
    TARGETS,
    Outcome,
    Point,
    Ratio,
    Run,
    baseline_of,
    ratio_at,
    reading_of,
)

__all__ = [
    "POINT_COLUMNS",
    "SUMMARY_COLUMNS",
    "document",
    "machine",
    "missing",
    "point_rows",
    "summary_rows",
]

# Columns of numbers end in a space: they are aligned to the right.
POINT_COLUMNS = (
    *("contender", "ef ", "recall ", "q/s ", "batch q/s ", "p50 us ", "p95 us ", "p99 us "),
)
SUMMARY_COLUMNS = (
    *("contender", "build s ", "index MB ", "peak MB "),
    *(f"{way} {target:g} " for way in ("x at", "batch x at") for target in TARGETS),
    "setting",
)
NONE = "-"


def machine() -> str:
    """Processor, cores and kernel."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    model = next(models, platform.machine() or "unknown")
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release()}"


def missing(kinds: Sequence[type[Contender]]) -> dict[str, str]:
    """The contenders that cannot take part for want of their library, and what pip installs."""
    return {kind.name: kind.package for kind in kinds if not kind.installed()}


# --- for people ---


def point_rows(found: Run) -> Iterator[list[object]]:
    """A line for each contender and setting."""
    for outcome in found.outcomes:
        for point in outcome.measured:
            batch = f"{median(point.batch_qps):,.0f}" if point.batch_qps else NONE
            rate = f"{median(point.qps):,.0f}"
            times = [f"{seconds * 1e6:.1f}" for seconds in latency(point)]
            yield [outcome.name, point.ef, f"{point.recall:.4f}", rate, batch, *times]


def latency(point: Point) -> list[float]:
    """Seconds of the median, the 95th and the 99th percentile: medians of the rounds'."""
    return [median(values) for values in zip(*point.latencies, strict=True)]


def summary_rows(found: Run) -> Iterator[list[object]]:
    """A line for each contender: the build, and how many times as fast as the baseline."""
    baseline = baseline_of(found)
    for outcome in found.outcomes:
        if outcome.built is None:
            continue
        sizes = (outcome.built.index_bytes, outcome.built.peak_bytes)
        ratios = [
            ratio_text(ratio_at(outcome, baseline, target, batch=batch))
            for batch in (False, True)
            for target in TARGETS
        ]
        megabytes = [f"{size / 1e6:.1f}" for size in sizes]
        yield [
            outcome.name,
            f"{outcome.built.seconds:.2f}",
            *megabytes,
            *ratios,
            outcome.setting,
        ]


def ratio_text(ratio: Ratio | None) -> str:
    """A ratio with what is known of it."""
    return NONE if ratio is None else f"{ratio.sign}{ratio.value:.2f}"


# --- for programs ---


def document(found: Run) -> dict[str, Any]:
    """Everything, for JSON; each contender's `rounds` hold the figures that medians come from."""
    trial, plan = found.trial, found.plan
    baseline = baseline_of(found)
    return {
        "ehub": __version__,
        "machine": machine(),
        "python": platform.python_version(),
        "made": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "complete": found.complete,
        "data": {
            "name": trial.name,
            "rows": len(trial.rows),
            "dims": trial.rows.shape[1],
            "metric": trial.metric,
            "queries": len(trial.queries),
            "truth": trial.truth,
            "rows_left_out": trial.rows_left_out,
            "queries_left_out": trial.queries_left_out,
        },
        "k": plan.k,
        "rounds": plan.rounds,
        "threads": plan.threads,
        "efs": list(plan.efs),
        "contenders": [contender(outcome, baseline) for outcome in found.outcomes],
        "missing": missing(list(CONTENDERS.values())),
    }


def contender(outcome: Outcome, baseline: Outcome | None) -> dict[str, Any]:
    """One contender."""
    built = outcome.built
    return {
        "name": outcome.name,
        "version": outcome.version,
        "setting": outcome.setting,
        "failure": outcome.failure or None,
        "build_seconds": built and built.seconds,
        "index_bytes": built and built.index_bytes,
        "build_peak_bytes": built and built.peak_bytes,
        "points": [point_document(point) for point in outcome.measured],
        "at_recall": {
            f"{target:g}": reading_document(outcome, baseline, target) for target in TARGETS
        },
    }


def point_document(point: Point) -> dict[str, Any]:
    """One setting of one contender."""
    p50, p95, p99 = latency(point)
    return {
        "ef": point.ef,
        "recall": point.recall,
        "qps": median(point.qps),
        "p50_seconds": p50,
        "p95_seconds": p95,
        "p99_seconds": p99,
        "batch_recall": point.batch_recall if point.batch_qps else None,
        "batch_qps": median(point.batch_qps) if point.batch_qps else None,
        "rounds": {"qps": point.qps, "batch_qps": point.batch_qps},
    }


def reading_document(outcome: Outcome, baseline: Outcome | None, target: float) -> dict[str, Any]:
    """What a contender does at a recall, alone and against the baseline."""
    entry: dict[str, Any] = {}
    for prefix, batch in (("", False), ("batch_", True)):
        reading = reading_of(outcome, target, batch=batch)
        ratio = ratio_at(outcome, baseline, target, batch=batch)
        entry[f"{prefix}qps"] = reading and reading.qps
        entry[f"{prefix}qps_is_lower_bound"] = reading and reading.bound
        entry[f"{prefix}ratio"] = ratio and ratio.value
        entry[f"{prefix}ratio_sign"] = ratio and ratio.sign
    return entry
