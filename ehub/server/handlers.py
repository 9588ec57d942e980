"""Handlers of gRPC around others: what interceptors give back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc

__all__ = ["Behaviour", "Codec", "around"]

# What runs a call, given its request or the stream of them, and the context.
Behaviour = Callable[[Any, Any], Any]
# A deserializer or a serializer; None: messages are bytes as they are.
Codec = Callable[[Any], Any] | None


def around(
    inner: grpc.RpcMethodHandler,
    run: Callable[[Behaviour, Any, Any], Any],
    read: Codec = None,
    write: Codec = None,
) -> grpc.RpcMethodHandler:
    """A handler of the same kind that runs `run(behaviour, given, context)`.

    Args:
        inner: The handler that has the behaviour.
        run: Runs it.
        read: Reads requests; None: as the inner one does.
        write: Writes answers; None: as the inner one does.
    """
    kinds = {False: "unary", True: "stream"}
    shape = f"{kinds[inner.request_streaming]}_{kinds[inner.response_streaming]}"
    behaviour: Behaviour = getattr(inner, shape)

    def call(given: Any, context: grpc.ServicerContext) -> Any:
        return run(behaviour, given, context)

    return getattr(grpc, f"{shape}_rpc_method_handler")(
        call, read or inner.request_deserializer, write or inner.response_serializer
    )
