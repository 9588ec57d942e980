"""All figures of a server, as one text."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

from ehub.hub import Hub
from ehub.server.config import MetricsConfig
from ehub.server.metrics.calls import CallMetrics
from ehub.server.metrics.hub import HubCollector
from ehub.server.metrics.recall import RecallSample
from ehub.server.watching import Watcher

__all__ = ["Metrics"]


class Metrics:
    """The figures of a server over a hub.

    Args:
        hub: The hub; it stays the caller's to close, after `close()`.
        config: How much is looked at.
    """

    def __init__(self, hub: Hub, config: MetricsConfig | None = None) -> None:
        told = MetricsConfig() if config is None else config
        self._registry = CollectorRegistry()
        self._registry.register(HubCollector(hub, told.versions))
        ProcessCollector(registry=self._registry)
        self._calls = CallMetrics()
        self._registry.register(self._calls)
        self._recall: RecallSample | None = None
        if told.recall_seconds > 0:
            self._recall = RecallSample(hub, told.recall_seconds, told.recall_queries)
            self._registry.register(self._recall)

    @property
    def watchers(self) -> tuple[Watcher, ...]:
        """What has to see the calls of the server, for a WatchInterceptor."""
        return (self._calls,) if self._recall is None else (self._calls, self._recall)

    def text(self) -> str:
        """All figures as of now, in Prometheus' text format (0.0.4)."""
        return generate_latest(self._registry).decode()

    def close(self) -> None:
        """End what measures by itself."""
        if self._recall is not None:
            self._recall.close()
