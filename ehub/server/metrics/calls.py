"""What calls do, by method: how many, how they end, how long they take, what they carry.

A call is added to its method's figures under one lock, once when it begins and once when it ends,
and so is each message of a stream. A lock for each counter would cost a busy server more.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import grpc
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from ehub.server.metrics.rows import rows_of
from ehub.server.watching import Watch
from ehub.wire.methods import BY_PATH, CALLS, Method

__all__ = ["CallMetrics"]

# Seconds: a search takes about the first, a scan or an ingest the last ones.
BUCKETS = (
    *(100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 10.0, 60.0),
)
BOUNDS = (*map(str, BUCKETS), "+Inf")
LABELS = ("service", "method")
# What callers name is theirs to make up, so what we do not have is one method.
OTHER = ("other", "other")
# By what a method's figures call them: the name, and what it is.
CARRIED = {
    "bytes_in": ("received_bytes", "Bytes of messages of callers."),
    "bytes_out": ("sent_bytes", "Bytes of messages to callers."),
    "rows_in": ("received_rows", "Rows to set or delete, as they came."),
    "rows_out": ("sent_rows", "Rows, neighbors and means in answers."),
}


@dataclass(slots=True)
class Carried:
    """What messages carry."""

    bytes_in: int = 0
    bytes_out: int = 0
    rows_in: int = 0
    rows_out: int = 0

    def add(self, bytes_in: int, rows_in: int, bytes_out: int, rows_out: int) -> None:
        """Add what others do."""
        self.bytes_in += bytes_in
        self.rows_in += rows_in
        self.bytes_out += bytes_out
        self.rows_out += rows_out


@dataclass(slots=True)
class MethodFigures:
    """The figures of one method, to be read and changed under its lock."""

    labels: tuple[str, str]
    streams: bool
    carries: bool = True  # what its messages carry is not counted elsewhere
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: int = 0
    ended: dict[grpc.StatusCode, int] = field(default_factory=dict)
    buckets: list[int] = field(default_factory=lambda: [0] * len(BOUNDS))
    seconds: float = 0.0
    carried: Carried = field(default_factory=Carried)


def figures_for(method: Method | None) -> MethodFigures:
    """Figures of a method, or of all that we do not have."""
    if method is None:
        return MethodFigures(OTHER, streams=False)
    service = method.path.split("/")[1]
    return MethodFigures(
        (service, method.name),
        streams=method.request_streams or method.response_streams,
        # Each message is a call of another method.
        carries=method.path != CALLS,
    )


class CallMetrics:
    """Counts the calls of a server; its families are for a registry."""

    def __init__(self) -> None:
        self._methods: dict[str, MethodFigures] = {}
        self._lock = threading.Lock()

    def watch(self, method: str, metadata: Sequence[tuple[str, Any]]) -> Watch:
        """Count a call."""
        found = self._methods.get(method)
        return CallCount(self._figures_of(method) if found is None else found)

    def _figures_of(self, path: str) -> MethodFigures:
        known = BY_PATH.get(path)
        with self._lock:
            return self._methods.setdefault(path if known else "", figures_for(known))

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that nothing is read to be registered."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The families, as of now."""
        with self._lock:
            methods = list(self._methods.values())
        ended = CounterMetricFamily(
            "ehub_calls", "Calls that have ended, by status.", labels=(*LABELS, "code")
        )
        seconds = HistogramMetricFamily(
            "ehub_call_duration_seconds", "From a call's arrival to its end.", labels=LABELS
        )
        running = GaugeMetricFamily(
            "ehub_calls_in_progress",
            "Calls at work; of kind stream, open streams.",
            labels=(*LABELS, "kind"),
        )
        carried = {
            name: CounterMetricFamily(f"ehub_{named}", text, labels=LABELS)
            for name, (named, text) in CARRIED.items()
        }
        for method in methods:
            with method.lock:
                for code, count in method.ended.items():
                    ended.add_metric((*method.labels, code.name), count)
                sums = zip(BOUNDS, accumulate(method.buckets), strict=True)
                seconds.add_metric(method.labels, list(sums), method.seconds)
                kind = "stream" if method.streams else "unary"
                running.add_metric((*method.labels, kind), method.running)
                for name, family in carried.items():
                    family.add_metric(method.labels, getattr(method.carried, name))
        yield from (ended, seconds, running, *carried.values())


class CallCount(Watch):
    """Counts one call."""

    __slots__ = ("_bytes_in", "_bytes_out", "_method", "_rows_in", "_rows_out", "_runs")

    def __init__(self, method: MethodFigures) -> None:
        self._method = method
        self._runs = False
        self._bytes_in = self._bytes_out = self._rows_in = self._rows_out = 0

    def begun(self) -> None:
        """It is in progress."""
        self._runs = True
        with self._method.lock:
            self._method.running += 1

    def received(self, message: Any, size: int) -> None:
        """Count what came."""
        self._carry(size, rows_of(message), 0, 0)

    def sent(self, message: Any, size: int) -> None:
        """Count what goes."""
        self._carry(0, 0, size, rows_of(message))

    def _carry(self, bytes_in: int, rows_in: int, bytes_out: int, rows_out: int) -> None:
        """Keep it until the end; of a stream, which may have none for long, add it now."""
        method = self._method
        if not method.streams:
            self._bytes_in += bytes_in
            self._rows_in += rows_in
            self._bytes_out += bytes_out
            self._rows_out += rows_out
        elif method.carries:
            with method.lock:
                method.carried.add(bytes_in, rows_in, bytes_out, rows_out)

    def ended(self, code: grpc.StatusCode, seconds: float) -> None:
        """Count it."""
        method = self._method
        with method.lock:
            method.running -= self._runs
            method.ended[code] = method.ended.get(code, 0) + 1
            method.buckets[bisect_left(BUCKETS, seconds)] += 1
            method.seconds += seconds
            method.carried.add(self._bytes_in, self._rows_in, self._bytes_out, self._rows_out)
