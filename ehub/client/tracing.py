"""The trace that a client's call is a part of, for the server to go on with it."""

from __future__ import annotations

import sys

__all__ = ["trace_context"]


def trace_context() -> tuple[tuple[str, str], ...]:
    """What OpenTelemetry wants to be sent with a call that is made here.

    A program that makes spans has imported OpenTelemetry itself, so where it has not there are none
    and nothing is imported for them.
    """
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry.propagate import inject

    carrier: dict[str, str] = {}
    inject(carrier)
    return tuple((name.lower(), value) for name, value in carrier.items())
