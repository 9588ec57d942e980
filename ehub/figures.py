"""What a hub and its server are doing, made of two looks at their figures: totals, and rates.

The figures are those that Prometheus is offered; `ehub top` and the page show what is made of them.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Figures",
    "HubFigures",
    "Look",
    "MethodFigures",
    "VersionFigures",
    "figures_of",
    "look_at",
]

Labels = tuple[tuple[str, str], ...]
Keep = Callable[[dict[str, str]], bool]


def every(labels: dict[str, str]) -> bool:
    """Whatever the labels are."""
    return True


@dataclass(frozen=True, slots=True)
class Look:
    """All figures at one time: by name, then by labels."""

    at: float  # seconds of time.time()
    values: Mapping[str, Mapping[Labels, float]]

    def of(self, name: str) -> Mapping[Labels, float]:
        """The values of a name."""
        return self.values.get(name, {})

    def one(self, name: str) -> float | None:
        """The sum of the values of a name; None if there is none."""
        found = self.of(name)
        return sum(found.values()) if found else None


def look_at(families: Iterable[Any]) -> Look:
    """The samples of Prometheus' families, by name."""
    values: defaultdict[str, dict[Labels, float]] = defaultdict(dict)
    for family in families:
        for sample in family.samples:
            values[sample.name][tuple(sorted(sample.labels.items()))] = sample.value
    return Look(time.time(), values)


@dataclass(frozen=True, slots=True)
class HubFigures:
    """The hub and its server. What is not known is None: of a directory, all about calls."""

    release: str
    uptime_seconds: float | None
    spaces: int
    rows: int
    unindexed_rows: int
    disk_bytes: int
    disk_free_bytes: int
    memory_bytes: int | None
    batches: int
    batches_per_second: float | None
    calls_per_second: float | None
    errors_per_second: float | None
    calls_in_progress: int | None
    streams: int | None
    snapshots: int | None
    log_bytes_per_second: float | None
    log_due_bytes: int | None
    syncs_per_second: float | None
    sync_p50_ms: float | None
    sync_p99_ms: float | None
    write_failed: bool | None


@dataclass(frozen=True, slots=True)
class MethodFigures:
    """The calls of one method: since the server's start, and a second."""

    service: str
    method: str
    calls: int
    errors: int
    in_progress: int
    calls_per_second: float
    errors_per_second: float
    p50_ms: float | None
    p99_ms: float | None
    rows_in_per_second: float
    rows_out_per_second: float
    bytes_in_per_second: float
    bytes_out_per_second: float


@dataclass(frozen=True, slots=True)
class VersionFigures:
    """One version; the empty name is all that have no figures of their own."""

    space: str
    version: str
    rows: int
    dead_rows: int
    unindexed_rows: int
    segments: int
    bytes: int
    recall: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """All of it. Rates are of so many seconds; None: since the server's start."""

    seconds: float | None
    hub: HubFigures
    methods: tuple[MethodFigures, ...] = ()
    versions: tuple[VersionFigures, ...] = field(default=())


def figures_of(now: Look, before: Look | None) -> Figures:
    """What two looks tell; of the first one, rates are since the server's start."""
    start = now.one("process_start_time_seconds")
    restarted = before is not None and before.one("process_start_time_seconds") != start
    earlier = None if restarted else before
    since = start if earlier is None else earlier.at
    rates = Rates(now, earlier, None if since is None else max(1e-9, now.at - since))
    return Figures(
        None if earlier is None else rates.seconds,
        hub_figures(now, rates, start),
        tuple(method_figures(now, rates)),
        tuple(version_figures(now)),
    )


class Rates:
    """Growth of counters between two looks, or from nothing to one."""

    def __init__(self, now: Look, before: Look | None, seconds: float | None) -> None:
        self._now = now
        self._before = before
        self._grown: dict[str, list[tuple[dict[str, str], float]]] = {}
        self.seconds = seconds

    def grown(self, name: str, keep: Keep = every) -> Iterator[tuple[dict[str, str], float]]:
        """How much the counters of a name have grown, of those whose labels are to be kept."""
        found = self._grown.get(name)
        if found is None:
            earlier = {} if self._before is None else self._before.of(name)
            found = self._grown[name] = [
                (dict(labels), value - earlier.get(labels, 0.0))
                for labels, value in self._now.of(name).items()
            ]
        return (one for one in found if keep(one[0]))

    def per_second(self, name: str, keep: Keep = every) -> float:
        """The same, together and a second."""
        total = sum(growth for _, growth in self.grown(name, keep))
        return total / self.seconds if self.seconds else 0.0

    def quantile(self, name: str, share: float, keep: Keep = every) -> float | None:
        """Milliseconds that this share of a histogram's durations took at most; None without any.

        Within a bucket durations are taken to be spread evenly, as Prometheus does.
        """
        buckets = sorted(
            (float(labels["le"]), growth) for labels, growth in self.grown(f"{name}_bucket", keep)
        )
        wanted = share * buckets[-1][1] if buckets else 0.0
        lower, below = 0.0, 0.0
        for bound, upto in buckets:
            if upto >= wanted > below:
                if math.isinf(bound):
                    return lower * 1e3
                return (lower + (wanted - below) / (upto - below) * (bound - lower)) * 1e3
            lower, below = bound, upto
        return None


def hub_figures(now: Look, rates: Rates, start: float | None) -> HubFigures:
    """The hub, and the server if there is one."""
    is_served = bool(now.of("ehub_sync_duration_seconds_count"))

    def number(name: str) -> int:
        return int(now.one(name) or 0)

    def of_server(value: Any) -> Any:
        return value if is_served else None

    streams = (
        v for k, v in now.of("ehub_calls_in_progress").items() if dict(k)["kind"] == "stream"
    )
    (info,) = now.of("ehub_info")
    timed = rates.seconds is not None
    return HubFigures(
        release=dict(info)["release"],
        uptime_seconds=of_server(None if start is None else now.at - start),
        spaces=number("ehub_spaces"),
        rows=number("ehub_rows"),
        unindexed_rows=number("ehub_unindexed_rows"),
        disk_bytes=number("ehub_hub_bytes"),
        disk_free_bytes=number("ehub_disk_free_bytes"),
        memory_bytes=of_server(number("process_resident_memory_bytes")),
        batches=number("ehub_batches_total"),
        batches_per_second=rates.per_second("ehub_batches_total") if timed else None,
        calls_per_second=of_server(rates.per_second("ehub_calls_total")),
        errors_per_second=of_server(rates.per_second("ehub_calls_total", is_error)),
        calls_in_progress=of_server(number("ehub_calls_in_progress")),
        streams=of_server(int(sum(streams))),
        snapshots=of_server(number("ehub_snapshots_open")),
        log_bytes_per_second=of_server(rates.per_second("ehub_log_bytes_total")),
        log_due_bytes=of_server(number("ehub_log_due_bytes")),
        syncs_per_second=of_server(rates.per_second("ehub_sync_duration_seconds_count")),
        sync_p50_ms=rates.quantile("ehub_sync_duration_seconds", 0.5),
        sync_p99_ms=rates.quantile("ehub_sync_duration_seconds", 0.99),
        write_failed=of_server(bool(number("ehub_write_failed"))),
    )


def is_error(labels: dict[str, str]) -> bool:
    """Whether a call's labels say that it failed."""
    return labels["code"] != "OK"


def method_figures(now: Look, rates: Rates) -> Iterable[MethodFigures]:
    """Each method that was ever called, the busiest first."""
    found = [
        method_figure(now, rates, dict(labels))
        for labels in now.of("ehub_call_duration_seconds_count")
    ]
    return sorted(found, key=lambda one: (-one.calls_per_second, -one.calls, one.method))


def method_figure(now: Look, rates: Rates, method: dict[str, str]) -> MethodFigures:
    """One method."""

    def mine(labels: dict[str, str]) -> bool:
        return method.items() <= labels.items()

    def failed(labels: dict[str, str]) -> bool:
        return mine(labels) and is_error(labels)

    def total(name: str, keep: Keep) -> int:
        return int(sum(value for labels, value in now.of(name).items() if keep(dict(labels))))

    return MethodFigures(
        **method,
        calls=total("ehub_calls_total", mine),
        errors=total("ehub_calls_total", failed),
        in_progress=total("ehub_calls_in_progress", mine),
        calls_per_second=rates.per_second("ehub_calls_total", mine),
        errors_per_second=rates.per_second("ehub_calls_total", failed),
        p50_ms=rates.quantile("ehub_call_duration_seconds", 0.5, mine),
        p99_ms=rates.quantile("ehub_call_duration_seconds", 0.99, mine),
        rows_in_per_second=rates.per_second("ehub_received_rows_total", mine),
        rows_out_per_second=rates.per_second("ehub_sent_rows_total", mine),
        bytes_in_per_second=rates.per_second("ehub_received_bytes_total", mine),
        bytes_out_per_second=rates.per_second("ehub_sent_bytes_total", mine),
    )


def version_figures(now: Look) -> Iterable[VersionFigures]:
    """Each version, the largest first."""

    def number(name: str, labels: Labels) -> int:
        return int(now.of(name).get(labels, 0))

    for labels, rows in now.of("ehub_rows").items():
        yield VersionFigures(
            **dict(labels),
            rows=int(rows),
            dead_rows=number("ehub_dead_rows", labels),
            unindexed_rows=number("ehub_unindexed_rows", labels),
            segments=number("ehub_segments", labels),
            bytes=number("ehub_segment_bytes", labels) + number("ehub_index_bytes", labels),
            recall=now.of("ehub_recall").get(labels),
        )
