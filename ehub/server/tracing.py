"""Whether the calls of a server are traced, and where the spans go.

For that OpenTelemetry's SDK must be installed; where it is not, or nobody asks for spans, nothing
of it is imported. Where spans go is told by OpenTelemetry's own variables: OTEL_TRACES_EXPORTER
("otlp", "console"; without it there are no spans), OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME
and so on. A provider that is there already, as `opentelemetry-instrument` makes one, is used as it
is.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ehub.errors import InvalidArgumentError
from ehub.server.watching import Watcher

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

__all__ = ["provider_of", "tracing"]

EXPORTER = "OTEL_TRACES_EXPORTER"
EXPORTERS = "opentelemetry_traces_exporter"


def tracing() -> tuple[list[Watcher], Callable[[], None]]:
    """What traces the calls of a server as the environment says, and how that is ended.

    Raises:
        InvalidArgumentError: There is no exporter of the name that is asked for.
    """
    wanted = [name.strip() for name in os.environ.get(EXPORTER, "none").split(",")]
    asked = wanted != ["none"] or "opentelemetry.trace" in sys.modules
    if not asked or not is_installed():
        return [], no_op
    from opentelemetry import trace

    from ehub.server.spans import SpanWatcher

    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return [SpanWatcher()], no_op  # whoever made it ends it
    if wanted == ["none"]:
        return [], no_op
    provider = provider_of([name for name in wanted if name != "none"])
    trace.set_tracer_provider(provider)
    return [SpanWatcher(provider)], provider.shutdown


def is_installed() -> bool:
    """Whether OpenTelemetry's SDK is there."""
    try:
        return find_spec("opentelemetry.sdk") is not None
    except ModuleNotFoundError:
        return False


def no_op() -> None:
    """End nothing."""


def provider_of(exporters: list[str]) -> TracerProvider:
    """A provider of tracers that send to these exporters."""
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    told = Resource.create()
    named = not str(told.attributes.get(SERVICE_NAME, "")).startswith("unknown_service")
    provider = TracerProvider(
        resource=told if named else told.merge(Resource({SERVICE_NAME: "ehub"}))
    )
    for name in exporters:
        found = next(iter(entry_points(group=EXPORTERS, name=name)), None)
        if found is None:
            raise InvalidArgumentError(
                f"{EXPORTER} names {name!r:.100}, and no exporter of that name is installed: "
                "pip install 'ehub[traces]' brings 'otlp'"
            )
        provider.add_span_processor(BatchSpanProcessor(found.load()()))
    return provider
