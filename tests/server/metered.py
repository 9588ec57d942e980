"""A server whose calls are watched, for tests of metrics and traces."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager

from prometheus_client.parser import text_string_to_metric_families

import ehub
from ehub.access import Access
from ehub.server.config import Limits, MetricsConfig, ServerConfig
from ehub.server.granting import access_service
from ehub.server.interceptor import AccessInterceptor
from ehub.server.metrics.metrics import Metrics
from ehub.server.metrics.port import MetricsPort
from ehub.server.old_clients import old_service
from ehub.server.serve import Server
from ehub.server.service import service
from ehub.server.watching import WatchInterceptor


class Metered:
    """A server with figures: as `ehub serve` puts it together, in this process."""

    def __init__(self, path, watchers=(), *, tls=None, limits=None, **told):
        with ExitStack() as opening:  # a start that fails leaves nothing open
            self.hub = opening.enter_context(
                ehub.open(path, durability=told.pop("durability", "full"))
            )
            self.config = ServerConfig(
                port=0, tls=tls, limits=limits or Limits(), metrics=MetricsConfig(**told)
            )
            self.metrics = Metrics(self.hub, self.config.metrics)
            opening.callback(self.metrics.close)
            self.access = Access(self.hub)
            self.guard = AccessInterceptor(self.hub, self.access)
            limits = self.config.limits
            services = [
                service(self.hub, limits, self.metrics),
                access_service(self.guard),
                old_service(self.hub, limits),
            ]
            watching = WatchInterceptor([*self.metrics.watchers, *watchers])
            self.server = Server(self.hub, self.config, services, [self.guard], watching)
            opening.callback(self.server.stop, 0)
            self.port = None
            if self.config.metrics.port is not None:
                self.port = MetricsPort(self.metrics, self.guard, self.config)
                opening.callback(self.port.close)
            self.server.start()
            self._opened = opening.pop_all()

    @property
    def address(self):
        return self.server.address

    def connect(self, **options):
        return ehub.connect(self.address, **options)

    def values(self):
        return values_of(self.metrics.text())

    def value(self, name, **labels):
        """The one sample of a name with these labels among its own; 0 if there is none."""
        return value_of(self.values(), name, **labels)

    def close(self):
        self._opened.close()


@contextmanager
def metered(path, *watchers, **told):
    """A Metered."""
    served = Metered(path, watchers, **told)
    try:
        yield served
    finally:
        served.close()


def values_of(text):
    """Samples of Prometheus' text, as (name, labels, value)."""
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def value_of(values, name, **labels):
    found = [value for one, own, value in values if one == name and labels.items() <= own.items()]
    assert len(found) <= 1, f"{name} {labels} is {len(found)} series"
    return found[0] if found else 0


def until(condition, seconds=30.0):
    """Wait until a condition holds, and give what it gave."""
    deadline = time.monotonic() + seconds
    while not (held := condition()):
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.01)
    return held


def messages(over):
    """A stream of no messages, which is open until it is over."""
    over.wait()
    yield from ()
