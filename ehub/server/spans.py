"""A span for each call, by OpenTelemetry, as its conventions for RPC have it (tracing.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from opentelemetry.context import attach
from opentelemetry.propagate import extract
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
    get_tracer,
    set_span_in_context,
)

from ehub.server.metrics.rows import rows_of
from ehub.server.watching import Watch
from ehub.wire.methods import BY_PATH

__all__ = ["SpanWatcher"]

METHOD_CHARS_MAX = 300

Code = grpc.StatusCode
# What is the server's failure, not the caller's, as OpenTelemetry's conventions have it.
FAILURES = frozenset(
    {
        Code.UNKNOWN,
        Code.DEADLINE_EXCEEDED,
        Code.UNIMPLEMENTED,
        Code.INTERNAL,
        Code.UNAVAILABLE,
        Code.DATA_LOSS,
    }
)


class SpanWatcher:
    """Makes a span of each call, a child of the caller's own, if that is in the metadata.

    Args:
        provider: Makes the tracer; None: the one of the process.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = get_tracer("ehub.server", tracer_provider=provider)

    def watch(self, method: str, metadata: Sequence[tuple[str, Any]]) -> Watch:
        """Begin the span of a call."""
        return CallSpan(self._tracer, method, metadata)


class CallSpan(Watch):
    """The span of one call."""

    __slots__ = ("_parent", "_said", "_span")

    def __init__(self, tracer: Tracer, method: str, metadata: Sequence[tuple[str, Any]]) -> None:
        known = method in BY_PATH
        name = method[1:] if known else "_OTHER"
        attributes = {"rpc.system.name": "grpc", "rpc.method": name}
        if not known:
            attributes["rpc.method_original"] = method[:METHOD_CHARS_MAX]
        texts = {key: value for key, value in metadata if isinstance(value, str)}
        self._parent = extract(texts)
        self._said = False
        self._span: Span = tracer.start_span(
            name, context=self._parent, kind=SpanKind.SERVER, attributes=attributes
        )

    def begun(self) -> None:
        """What the service does is within the span."""
        attach(set_span_in_context(self._span, self._parent))

    def received(self, message: Any, size: int) -> None:
        """Say what the call is about, as its first message says it."""
        if not self._said and self._span.is_recording():
            self._said = True
            self._span.set_attributes(about(message))

    def ended(self, code: grpc.StatusCode, seconds: float) -> None:
        """End the span."""
        self._span.set_attribute("rpc.response.status_code", code.name)
        if code is not Code.OK:
            self._span.set_attribute("error.type", code.name)
        if code in FAILURES:
            self._span.set_status(Status(StatusCode.ERROR))
        self._span.end()


def about(message: Any) -> dict[str, Any]:
    """What a request is about: names and numbers, never keys or vectors."""
    source = message.parts[0] if getattr(message, "parts", None) else message
    target = getattr(source, "target", source)
    options = getattr(message, "options", None)
    said = {
        "ehub.space": getattr(target, "space", None),
        "ehub.version": getattr(target, "version", None),
        "ehub.average": getattr(target, "average", None),
        "ehub.subindex": getattr(target, "subindex", None),
        "ehub.tag": getattr(target, "tag", None),
        "ehub.partitions": list(getattr(target, "partitions", ())),
        "ehub.k": getattr(options, "k", None),
        "ehub.rows": rows_of(message),
    }
    return {name: value for name, value in said.items() if value}
