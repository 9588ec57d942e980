"""Every call as those see it who watch: its messages, how long it took, how it ended.

Metrics and traces are made of that. A call is seen from the moment it arrives, so the wait for a
thread counts, and calls that the guard refuses are seen like others. Health checks are not.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

import grpc

from ehub.server.handlers import Behaviour, Codec, around
from ehub.server.inner_calls import Run
from ehub.server.rules import HEALTH

__all__ = ["Watch", "WatchInterceptor", "Watcher", "code_of"]

Code = grpc.StatusCode


class Watch:
    """What one who watches makes of one call; of this class, nothing.

    What it does costs every call, and must not fail. All of one call is in turn, but for messages,
    which are read and written by threads of their own where they are streams.
    """

    __slots__ = ()

    def begun(self) -> None:
        """The service runs now, in the context (`contextvars`) in which this is called."""

    def received(self, message: Any, size: int) -> None:
        """A message was read, of so many bytes."""

    def sent(self, message: Any, size: int) -> None:
        """A message was written, of so many bytes."""

    def ended(self, code: grpc.StatusCode, seconds: float) -> None:
        """The call is over, so long after it arrived. Without `begun()` if nothing ran."""


class Watcher(Protocol):
    """Whoever watches the calls of a server."""

    def watch(self, method: str, metadata: Sequence[tuple[str, Any]]) -> Watch:
        """A call of the method with this path has arrived; the path is the caller's own word."""


class WatchInterceptor(grpc.ServerInterceptor):  # type: ignore[misc]
    """Shows each call to all who watch; the outermost interceptor of a server."""

    def __init__(self, watchers: Iterable[Watcher]) -> None:
        self._watchers = tuple(watchers)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """The handler of a call, watched."""
        if details.method.startswith(f"/{HEALTH}/"):
            return continuation(details)
        call = WatchedCall(
            [one.watch(details.method, details.invocation_metadata) for one in self._watchers]
        )
        handler = continuation(details)
        if handler is None:  # there is no such method
            call.end(Code.UNIMPLEMENTED)
            return None
        return call.handler(handler)

    def layer(self, path: str, inner: Run) -> Run:
        """The same around each call of a method from within; of its context it asks the sizes."""
        watchers = self._watchers

        def run(request: Any, context: Any) -> Any:
            arrived, code = time.perf_counter(), Code.UNKNOWN
            watches = [one.watch(path, context.metadata) for one in watchers]
            try:
                for watch in watches:
                    watch.received(request, context.received_bytes)
                    watch.begun()
                answer = inner(request, context)
                size = len(context.packed(answer))
                for watch in watches:
                    watch.sent(answer, size)
                code = context.code() or Code.OK
                return answer
            except BaseException:
                code = code_of(context, Code.UNKNOWN)
                raise
            finally:
                seconds = time.perf_counter() - arrived
                for watch in watches:
                    watch.ended(code, seconds)

        return run


class WatchedCall:
    """One call. It is made when the call arrives, and serves it alone."""

    __slots__ = ("_arrived", "_code", "_watches")

    def __init__(self, watches: list[Watch]) -> None:
        self._watches = watches
        self._arrived = time.perf_counter()
        self._code = Code.OK

    def handler(self, inner: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """The handler, watched."""
        run = self._in_stream if inner.response_streaming else self._at_once
        read, write = inner.request_deserializer, inner.response_serializer
        ends = not inner.response_streaming
        return around(inner, run, self._reading(read), self._writing(write, ends))

    def end(self, code: grpc.StatusCode) -> None:
        """Tell all that it is over."""
        seconds = time.perf_counter() - self._arrived
        for watch in self._watches:
            watch.ended(code, seconds)

    # --- messages ---

    def _reading(self, inner: Codec) -> Codec:
        def read(data: bytes) -> Any:
            try:
                message = data if inner is None else inner(data)
            except Exception:  # gRPC ends the call so
                self.end(Code.INTERNAL)
                raise
            for watch in self._watches:
                watch.received(message, len(data))
            return message

        return read

    def _writing(self, inner: Codec, ends: bool) -> Codec:
        """Writes answers; with `ends` there is one, and the call ends with it."""

        def write(message: Any) -> Any:
            try:
                data = message if inner is None else inner(message)
            except Exception:
                if ends:
                    self.end(Code.INTERNAL)
                raise
            for watch in self._watches:
                watch.sent(message, len(data))
            if ends:
                self.end(self._code)
            return data

        return write

    # --- the run ---

    def _begin(self) -> contextvars.Context:
        """A context for the service to run in, which those who watch may change."""
        own = contextvars.copy_context()
        for watch in self._watches:
            own.run(watch.begun)
        return own

    def _at_once(self, behaviour: Behaviour, given: Any, context: grpc.ServicerContext) -> Any:
        own = self._begin()
        try:
            answer = own.run(behaviour, given, context)
        except BaseException:
            self.end(code_of(context, Code.UNKNOWN))
            raise
        self._code = context.code() or Code.OK
        return answer

    def _in_stream(
        self, behaviour: Behaviour, given: Any, context: grpc.ServicerContext
    ) -> Iterator[Any]:
        own = self._begin()
        otherwise = Code.UNKNOWN
        answers: Any = None
        try:
            answers = own.run(behaviour, given, context)
            while (answer := own.run(next, answers, None)) is not None:
                yield answer
            otherwise = Code.OK
        finally:
            if hasattr(answers, "close"):
                own.run(answers.close)
            self.end(code_of(context, otherwise))


def code_of(context: Any, otherwise: grpc.StatusCode) -> grpc.StatusCode:
    """How a call has ended: as it was told to, or as it looks."""
    told: grpc.StatusCode | None = context.code()
    if told is not None:
        return told
    if context.is_active():
        return otherwise
    remaining = context.time_remaining()
    over = remaining is not None and remaining <= 0
    return Code.DEADLINE_EXCEEDED if over else Code.CANCELLED
