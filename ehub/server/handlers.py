"""Handlers of gRPC around others: what interceptors give back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import grpc

from ehub.server.pace import Pace

__all__ = ["Behaviour", "Codec", "around", "close", "refuses", "refusing"]

# What runs a call, given its request or the stream of them, and the context.
Behaviour = Callable[[Any, Any], Any]
# A deserializer or a serializer; None: messages are bytes as they are.
Codec = Callable[[Any], Any] | None

# What grpcio asks a behaviour for: the threads that it runs in, if not in those of all calls.
THREADS = "experimental_thread_pool"


# Refusals: so many at once, then so many a second; but no more than so many wait.
REFUSALS_BURST, REFUSALS_PER_SECOND, REFUSALS_WAITING_MAX = 50, 200.0, 1_000


class Refusals(ThreadPoolExecutor):
    """One thread that ends calls, at its leisure: whoever sends them for nothing waits for it.

    Those of a flood would else take the time of all others, for refusing costs not much less than
    answering. What is too much to wait is done at once.
    """

    def __init__(self) -> None:
        super().__init__(1, thread_name_prefix="ehub-refusals")
        self._pace = Pace(REFUSALS_BURST, REFUSALS_PER_SECOND)
        self._lock = threading.Lock()
        self._waiting = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        """Do it later."""
        with self._lock:
            self._waiting += 1
        return super().submit(self._run, fn, *args, **named)

    def _run(self, fn: Callable[..., Any], *args: Any, **named: Any) -> Any:
        with self._lock:
            self._waiting -= 1
            few = self._waiting < REFUSALS_WAITING_MAX
        while few and not self._pace.take():
            time.sleep(1 / REFUSALS_PER_SECOND)
        return fn(*args, **named)


REFUSALS = Refusals()


def behaviour_of(handler: grpc.RpcMethodHandler) -> Behaviour:
    """What a handler runs."""
    shape = shape_of(handler.request_streaming, handler.response_streaming)
    behaviour: Behaviour = getattr(handler, shape)
    return behaviour


def shape_of(request_streams: bool, response_streams: bool) -> str:
    """What gRPC calls handlers of a kind."""
    kinds = {False: "unary", True: "stream"}
    return f"{kinds[request_streams]}_{kinds[response_streams]}"


def around(
    inner: grpc.RpcMethodHandler,
    run: Callable[[Behaviour, Any, Any], Any],
    read: Codec = None,
    write: Codec = None,
    *,
    request_streams: bool | None = None,
    threads: ThreadPoolExecutor | None = None,
) -> grpc.RpcMethodHandler:
    """A handler that runs `run(behaviour, given, context)` where the inner one would run.

    Args:
        inner: The handler that has the behaviour.
        run: Runs it.
        read: Reads requests; None: as the inner one does.
        write: Writes answers; None: as the inner one does.
        request_streams: Whether `run` is given a stream of requests; None: as the inner one is.
        threads: That it runs in; None: those of the inner one.
    """
    behaviour = behaviour_of(inner)
    if request_streams is None:
        request_streams = inner.request_streaming

    def call(given: Any, context: grpc.ServicerContext) -> Any:
        return run(behaviour, given, context)

    setattr(call, THREADS, threads or getattr(behaviour, THREADS, None))
    make = f"{shape_of(request_streams, inner.response_streaming)}_rpc_method_handler"
    return getattr(grpc, make)(
        call, read or inner.request_deserializer, write or inner.response_serializer
    )


def refusing(refuse: Callable[[grpc.ServicerContext], None]) -> grpc.RpcMethodHandler:
    """A handler that ends calls, without a thread of theirs, and reads no request.

    Args:
        refuse: Ends a call by `context.abort()`.
    """

    def run(requests: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        refuse(context)
        yield

    setattr(run, THREADS, REFUSALS)
    return grpc.stream_stream_rpc_method_handler(run)


def refuses(handler: grpc.RpcMethodHandler) -> bool:
    """Whether a handler is one of `refusing()`."""
    return getattr(behaviour_of(handler), THREADS, None) is REFUSALS


def close(answers: Any) -> None:
    """End a call's answers, if they have an end."""
    if hasattr(answers, "close"):
        answers.close()
