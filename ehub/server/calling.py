"""Many small calls on one stream: each is run as if it had come alone (inner_calls.py)."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grpc

from ehub.errors import EhubError, InvalidArgumentError
from ehub.server.call_streams import CallStreams
from ehub.server.inner_calls import InnerCalls, InnerContext, run_alone
from ehub.wire import ehub_pb2 as pb
from ehub.wire.failures import Ended, code_of, detail_of, found_in
from ehub.wire.methods import SMALL

__all__ = ["Calling"]

log = logging.getLogger("ehub.server.calls")

# Who calls is told by the stream, not by its messages.
AUTHORIZATION = "authorization"
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED.value[0]


class Calling:
    """A part of the servicer (service.py)."""

    _call_streams: CallStreams
    # Set by the server that offers the service.
    _inner_calls: InnerCalls | None = None

    def Calls(self, requests: Iterator[pb.CallRequest], context: Any) -> Iterator[pb.CallResponse]:
        if self._inner_calls is None:
            raise InvalidArgumentError("calls are answered one by one here")
        caller = StreamCaller(self._inner_calls, context)
        with self._call_streams.opened(context) as stream:
            for request in requests:
                stream.begin()
                answer = caller.answer(request)
                yield answer
                # Who is believed no more keeps no place.
                if not stream.end() or answer.code == UNAUTHENTICATED:
                    return


class StreamCaller:
    """Who makes the calls of one stream, one after the other.

    Args:
        calls: What runs them.
        context: Of the stream.
    """

    def __init__(self, calls: InnerCalls, context: Any) -> None:
        self._calls = calls
        self._context = context
        self._peer = context.peer()
        self._metadata = tuple(context.invocation_metadata())
        self._running: MessageContext | None = None
        context.add_callback(self._leave)

    def _leave(self) -> None:
        """The caller has left."""
        running = self._running
        if running is not None:
            running.leave()

    def answer(self, message: pb.CallRequest) -> pb.CallResponse:
        """Run one call."""
        self._running = context = MessageContext(self._peer, self._context, message.timeout_seconds)
        try:
            return pb.CallResponse(response=self._run(message, context))
        except Ended as end:
            return failed(end.code(), end.details(), found_in(end.trailing_metadata()))
        except EhubError as error:
            return failed(code_of(error), str(error), detail_of(error))
        except Exception as error:
            number = uuid.uuid4().hex[:12]
            log.error("internal error", exc_info=error, extra={"method": "Calls", "error": number})
            told = f"an internal error, {number} in the server's log"
            return failed(grpc.StatusCode.INTERNAL, told, None)
        finally:
            self._running = None

    def _run(self, message: pb.CallRequest, context: MessageContext) -> bytes:
        method = SMALL.get(message.method)
        if method is None:
            raise InvalidArgumentError(
                f"{message.method!r:.100} is no call for a stream of them; {', '.join(SMALL)} are"
            )
        handler = self._calls.handler(method.path, self._told(message.trace))
        read, write = handler.request_deserializer, handler.response_serializer
        request = message.request if read is None else read(message.request)
        answer = run_alone(handler, request, context)
        data: bytes = write(answer)
        return data

    def _told(self, trace: Mapping[str, str]) -> Sequence[tuple[str, Any]]:
        """The metadata of a call."""
        if not trace:
            return self._metadata
        own = ((name, text) for name, text in trace.items() if name.lower() != AUTHORIZATION)
        return (*self._metadata, *own)


class MessageContext(InnerContext):
    """Of a call that is a message of a stream.

    Args:
        peer: Where it comes from.
        stream: The context of the stream.
        timeout_seconds: How long the caller waits; 0 or less: without end.
    """

    def __init__(self, peer: str, stream: Any, timeout_seconds: float) -> None:
        super().__init__(peer)
        self._stream = stream
        self._until = time.monotonic() + timeout_seconds if timeout_seconds > 0 else None
        self._callbacks: list[Callable[[], None]] | None = []

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """What the connection proves."""
        proven: Mapping[str, Sequence[bytes]] = self._stream.auth_context()
        return proven

    def is_active(self) -> bool:
        """Whether the caller is still there."""
        return self._callbacks is not None and bool(self._stream.is_active())

    def time_remaining(self) -> float | None:
        """Seconds until the caller waits no more."""
        return None if self._until is None else max(self._until - time.monotonic(), 0.0)

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Have something called when the caller leaves."""
        callbacks = self._callbacks
        if callbacks is None:
            return False
        callbacks.append(callback)
        return True

    def leave(self) -> None:
        """The caller has left."""
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback()


def failed(
    code: grpc.StatusCode | None, details: str, error: pb.ErrorDetail | None
) -> pb.CallResponse:
    """The answer to a call that has failed."""
    number = (code or grpc.StatusCode.UNKNOWN).value[0]
    return pb.CallResponse(code=number, details=details, error=error)
