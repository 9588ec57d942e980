"""Many small calls on one stream: each is run as if it had come alone (inner_calls.py)."""

from __future__ import annotations

import contextvars
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import grpc

from ehub.errors import EhubError, InvalidArgumentError
from ehub.server import scope
from ehub.server.call_streams import CallStream, CallStreams
from ehub.server.calls import require_active
from ehub.server.inner_calls import InnerCalls, InnerContext, Metadata, Run
from ehub.server.server_line import ServerLine, line_of
from ehub.wire import ehub_pb2 as pb
from ehub.wire.failures import Ended, code_of, detail_of, found_in
from ehub.wire.methods import SMALL, Method, Unreadable, readable, reader_of

if TYPE_CHECKING:
    from ehub.server.admission import Visit

__all__ = ["Calling", "StreamCaller"]

log = logging.getLogger("ehub.server.calls")

# Who calls is told by the stream, not by its messages.
AUTHORIZATION = "authorization"
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED.value[0]

READ = reader_of(pb.CallRequest)


class Calling:
    """A part of the servicer (service.py)."""

    _call_streams: CallStreams
    # Set by the server that offers the service.
    _inner_calls: InnerCalls | None = None

    def Calls(self, requests: Iterator[pb.CallRequest], context: Any) -> Iterator[pb.CallResponse]:
        visit = scope.visit.get()()
        if self._inner_calls is None or visit is None:
            raise InvalidArgumentError("calls are answered one by one here")
        caller = StreamCaller(self._inner_calls, context, visit)
        line = line_of(context, visit.offend)
        with self._call_streams.opened(context, visit.caller) as stream:
            if line is None:
                yield from by_grpcio(requests, caller, stream)
            else:
                yield from by_line(line, caller, stream, visit)
                # So clients end it, who just close the connection: no call of theirs was cut.
                if line.left_nothing:
                    context.set_code(grpc.StatusCode.OK)


def by_grpcio(
    requests: Iterator[pb.CallRequest], caller: StreamCaller, stream: CallStream
) -> Iterator[pb.CallResponse]:
    """Answer the calls of a stream that grpcio reads and writes."""
    for request in requests:
        stream.begin()
        answer = caller.answer(request)
        yield answer
        # Who is believed no more keeps no place.
        if not stream.may_go_on or answer.code == UNAUTHENTICATED:
            return
        stream.end()


def by_line(
    line: ServerLine, caller: StreamCaller, stream: CallStream, visit: Visit
) -> Iterator[pb.CallResponse]:
    """Answer the calls of a line; what is given here is the last answer of the stream."""

    def begun() -> None:
        visit.wait()
        stream.end()

    data: bytes | None = None
    while (data := line.exchange(data, begun)) is not None:
        visit.work()
        visit.be_patient()
        stream.begin()
        request = READ(data)
        if type(request) is Unreadable:
            visit.offend()
        answer = caller.answer(readable(request))
        if not stream.may_go_on or answer.code == UNAUTHENTICATED:
            yield answer
            return
        data = answer.SerializeToString()


class StreamCaller:
    """Who makes the calls of one stream, one after the other.

    Args:
        calls: What runs them.
        context: Of the stream.
        visit: The stream as those see it who look after all calls.
    """

    def __init__(self, calls: InnerCalls, context: Any, visit: Visit) -> None:
        self._calls = calls
        self._context = context
        self._visit = visit
        self._peer = context.peer()
        self._metadata = tuple(context.invocation_metadata())
        self._runs: dict[str, SmallRun] = {}
        self._running: MessageContext | None = None
        self._left = False
        if not context.add_callback(self._leave):
            self._left = True

    def _leave(self) -> None:
        """The caller has left."""
        self._left = True
        running = self._running
        if running is not None:
            running.leave()

    def answer(self, message: pb.CallRequest) -> pb.CallResponse:
        """Run one call."""
        context = MessageContext(
            self._peer, self._told(message.trace), self._context, message.timeout_seconds
        )
        self._running = context
        try:
            if self._left:
                context.leave()
            # What is set in the course of one call is not there in the next one.
            own = contextvars.copy_context()
            return pb.CallResponse(response=own.run(self._run, message, context))
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
        small = self._runs.get(message.method) or self._small(message.method, context)
        data = message.request
        request = small.read(data)
        if type(request) is Unreadable:
            self._visit.offend()
        context.received_bytes = len(data)
        answer = small.run(request, context)
        require_active(context)  # what comes too late is no answer, as on a call of its own
        return context.packed(answer)

    def _small(self, name: str, context: MessageContext) -> SmallRun:
        """What runs calls of a method."""
        method = SMALL.get(name)
        if method is None:  # a newer client may know more of them
            context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                f"{name!r:.100} is no call for a stream of them; {', '.join(SMALL)} are",
            )
        small = self._runs[name] = SmallRun(method, self._calls)
        return small

    def _told(self, trace: Mapping[str, str]) -> Metadata:
        """The metadata of a call."""
        if not trace:
            return self._metadata
        own = ((name, text) for name, text in trace.items() if name.lower() != AUTHORIZATION)
        return (*self._metadata, *own)


class SmallRun:
    """What reads and runs the calls of a method."""

    __slots__ = ("read", "run")

    def __init__(self, method: Method, calls: InnerCalls) -> None:
        self.read = reader_of(method.request)
        self.run: Run = calls.run_of(method.path)


class MessageContext(InnerContext):
    """Of a call that is a message of a stream.

    Args:
        peer: Where it comes from.
        metadata: What came with it.
        stream: The context of the stream.
        timeout_seconds: How long the caller waits; 0 or less: without end.
    """

    received_bytes = 0

    def __init__(self, peer: str, metadata: Metadata, stream: Any, timeout_seconds: float) -> None:
        super().__init__(peer, metadata)
        self._stream = stream
        self._until = time.monotonic() + timeout_seconds if timeout_seconds > 0 else None
        # Who leaves while a callback is added finds it, or is found.
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] | None = []
        self._packed: bytes | None = None

    def packed(self, answer: Any) -> bytes:
        """The answer as it travels; there is one."""
        data = self._packed
        if data is None:
            data = self._packed = answer.SerializeToString()
        return data

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """What the connection proves."""
        proven: Mapping[str, Sequence[bytes]] = self._stream.auth_context()
        return proven

    def is_active(self) -> bool:
        """Whether the caller is still there."""
        return self._callbacks is not None

    def time_remaining(self) -> float | None:
        """Seconds until the caller waits no more."""
        return None if self._until is None else max(self._until - time.monotonic(), 0.0)

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Have something called when the caller leaves."""
        with self._lock:
            if self._callbacks is None:
                return False
            self._callbacks.append(callback)
            return True

    def leave(self) -> None:
        """The caller has left."""
        with self._lock:
            callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            callback()


def failed(
    code: grpc.StatusCode | None, details: str, error: pb.ErrorDetail | None
) -> pb.CallResponse:
    """The answer to a call that has failed."""
    number = (code or grpc.StatusCode.UNKNOWN).value[0]
    return pb.CallResponse(code=number, details=details, error=error)
