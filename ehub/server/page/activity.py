"""What the server does over time: looks at its figures, one every few seconds while asked."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import asdict
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from ehub.figures import Figures, Look, figures_of, look_at

__all__ = ["Activity"]

MOMENTS_MAX = 120
PAUSE_SECONDS = 4.0
METHODS_MAX = 30
# Of what is told of a method.
OF_METHOD = (
    *("service", "method", "calls", "errors", "in_progress", "calls_per_second"),
    *("p50_ms", "p99_ms"),
)


class Activity:
    """The last looks, which whoever may see the figures shares. Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: Look | None = None
        self._moments: deque[dict[str, Any]] = deque(maxlen=MOMENTS_MAX)

    def report(self, text: str) -> dict[str, Any]:
        """What the figures say, in Prometheus' text format, and what those before did."""
        look = look_at(text_string_to_metric_families(text))
        since_start = figures_of(look, None)
        with self._lock:
            if self._last is None:
                self._last = look
            elif look.at - self._last.at >= PAUSE_SECONDS:
                self._moments.append(moment(look.at, figures_of(look, self._last)))
                self._last = look
            moments = list(self._moments)
        hub = asdict(since_start.hub)
        return {
            "uptime_seconds": hub["uptime_seconds"],
            "memory_bytes": hub["memory_bytes"],
            "disk_free_bytes": hub["disk_free_bytes"],
            "sync_p50_ms": hub["sync_p50_ms"],
            "sync_p99_ms": hub["sync_p99_ms"],
            "methods": [
                {name: getattr(one, name) for name in OF_METHOD}
                for one in since_start.methods[:METHODS_MAX]
            ],
            "recalls": [
                {"space": one.space, "version": one.version, "recall": one.recall}
                for one in since_start.versions
                if one.recall is not None
            ],
            "moments": moments,
        }


def moment(at: float, figures: Figures) -> dict[str, Any]:
    """What went on between two looks; `at` in milliseconds, as JavaScript has times."""
    return {
        "at": int(at * 1e3),
        "calls_per_second": figures.hub.calls_per_second,
        "errors_per_second": figures.hub.errors_per_second,
        "methods": {
            f"{one.service}/{one.method}": {"p50_ms": one.p50_ms, "p99_ms": one.p99_ms}
            for one in figures.methods
            if one.p50_ms is not None
        },
    }
