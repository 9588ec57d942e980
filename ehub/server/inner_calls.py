"""Calls that are made within the server, on behalf of a caller, as if they had come from outside.

They go through the same interceptors and handlers, so they are watched, checked, audited and
answered in the same way: who makes them can neither ask nor learn more than by a call.

Handlers and contexts of gRPC made anew for each call cost more than most of these calls do. So an
interceptor of ours has a layer besides (`Layered`): made once for a method, it does the same around
each call of it that is answered in one message.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NoReturn, Protocol, cast

import grpc

from ehub.wire.failures import Ended

__all__ = ["InnerCalls", "InnerContext", "Layered", "Run", "run_alone"]

Metadata = Sequence[tuple[str, Any]]
# Runs a call that is answered in one message, in a context (`contextvars`) of its own.
Run = Callable[[Any, Any], Any]


class Layered(Protocol):
    """An interceptor that knows such calls."""

    def layer(self, path: str, inner: Run) -> Run:
        """What does around `inner`, for each call of a method, what the interceptor does."""


class InnerCalls:
    """What runs such calls. Any thread may use it.

    Args:
        interceptors: What every call goes through, the first one outermost.
        handlers: Those of the methods, by path.
    """

    def __init__(
        self,
        interceptors: Sequence[grpc.ServerInterceptor],
        handlers: Mapping[str, grpc.RpcMethodHandler],
    ) -> None:
        self._handlers = handlers
        self._interceptors = tuple(interceptors)
        self._find: Callable[[Any], grpc.RpcMethodHandler | None] = self._found
        for one in reversed(interceptors):
            self._find = before(one, self._find)

    def _found(self, details: Any) -> grpc.RpcMethodHandler | None:
        return self._handlers.get(details.method)

    def run_of(self, path: str) -> Run:
        """What runs any number of calls of a method that is answered in one message.

        A call is run in a context (`contextvars`) of its own, and an Ended if it is refused or
        fails. Of its InnerContext it asks `metadata`, too.
        """
        run: Run = self._handlers[path].unary_unary
        for one in reversed(self._interceptors):
            run = layer_of(one, path, run)
        return run

    def handler(self, path: str, metadata: Metadata) -> grpc.RpcMethodHandler:
        """What runs one call, after the interceptors have looked at it; maybe one that refuses."""
        found = self._find(SimpleNamespace(method=path, invocation_metadata=metadata))
        assert found is not None, path
        return found


def before(
    interceptor: grpc.ServerInterceptor, inner: Callable[[Any], Any]
) -> Callable[[Any], Any]:
    """What finds a handler, with an interceptor before it."""
    return lambda details: interceptor.intercept_service(inner, details)


def layer_of(interceptor: grpc.ServerInterceptor, path: str, inner: Run) -> Run:
    """The layer of an interceptor; of one that has none, what it makes of each call."""
    if hasattr(interceptor, "layer"):
        return cast("Layered", interceptor).layer(path, inner)
    handler = grpc.unary_unary_rpc_method_handler(inner)

    def run(request: Any, context: Any) -> Any:
        details = SimpleNamespace(method=path, invocation_metadata=context.metadata)
        return run_alone(
            interceptor.intercept_service(lambda details: handler, details), request, context
        )

    return run


def run_alone(handler: grpc.RpcMethodHandler, request: Any, context: InnerContext) -> Any:
    """The answer of a call that has one; an Ended if it is refused or fails."""
    if handler.unary_unary is not None:
        return handler.unary_unary(request, context)
    # A refusal is a handler of streams, whatever the method is; it reads no request.
    return next(handler.stream_stream(iter(()), context))


class InnerContext:
    """What a service asks of such a call: `grpc.ServicerContext`, as far as ours ask it.

    As it is there is no deadline and nobody leaves.

    Args:
        peer: Where it comes from, for the audit log.
        metadata: What came with it.
    """

    def __init__(self, peer: str, metadata: Metadata = ()) -> None:
        self._peer = peer
        self.metadata = metadata
        self._code: grpc.StatusCode | None = None
        self._trailing: tuple[tuple[str, Any], ...] = ()

    def peer(self) -> str:
        """Where the call came from."""
        return self._peer

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """What the connection proves."""
        return {}

    def is_active(self) -> bool:
        """Whether somebody waits."""
        return True

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Have something called when the caller leaves; False if that is too late."""
        return True

    def time_remaining(self) -> float | None:
        """Seconds until its time is over; None: there is no deadline."""
        return None

    def code(self) -> grpc.StatusCode | None:
        """How it was told to end, if it was."""
        return self._code

    def set_trailing_metadata(self, metadata: tuple[tuple[str, Any], ...]) -> None:
        """Keep what the end of the call tells."""
        self._trailing = metadata

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        """End the call."""
        self._code = code
        raise Ended(code, details, self._trailing)
