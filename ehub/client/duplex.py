"""Calls with messages in both directions, for callers that wait."""

from __future__ import annotations

import os
import queue
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import grpc

from ehub.client.lines import CODES
from ehub.client.sync_line import abandon, begun
from ehub.errors import UnavailableError
from ehub.wire.failures import Ended
from ehub.wire.methods import Method, packed

try:
    from grpc._cython import cygrpc
except ImportError:  # pragma: no cover - every release so far has it
    cygrpc = None

__all__ = ["Duplex", "duplex_of"]

# What is under way in the core: the beginning, the end, a message that leaves, one that comes.
BEGUN, OVER, SENT, CAME = "begun", "over", "sent", "came"

Metadata = tuple[tuple[str, str], ...]
# The exception that the end of a call is.
Failure = Callable[[Any], Exception]


class Duplex(ABC):
    """A call with messages in both directions, each read by one caller."""

    @abstractmethod
    def send(self, message: Any) -> None:
        """Send one more message; what the call ended with comes out of `receive()`."""

    @abstractmethod
    def receive(self) -> Any:
        """The next answer; raises what the call ended with."""

    @abstractmethod
    def close(self) -> None:
        """End the call, which is cancelled if it is not over."""


def duplex_of(channel: Any, method: Method, metadata: Metadata, failure: Failure) -> Duplex:
    """A call of a channel of `grpc`.

    Args:
        channel: The channel.
        method: What is called.
        metadata: What goes with it.
        failure: What the end of the call is made when it is no answer.
    """
    try:
        return DrivenDuplex(channel, method, metadata, failure)
    except (AttributeError, TypeError):
        return QueuedDuplex(method.call(channel), metadata, failure)


class DrivenDuplex(Duplex):
    """A call that the calling thread drives alone, as it does a line (sync_line.py).

    grpcio's own streams take messages from an iterator in a thread of theirs, which waits for the
    interpreter while the caller packs the next message: nothing is on its way until all is packed.
    Here the core has a message when `send()` returns, and sends it meanwhile.
    """

    def __init__(self, channel: Any, method: Method, metadata: Metadata, failure: Failure) -> None:
        self._read = method.response.FromString
        self._failure = failure
        self._due = {BEGUN, OVER}
        self._end: Exception | None = None
        self._call = begun(channel, method.path.encode(), metadata)
        # An interrupt may make its user lose it anywhere; then the server shall not keep it open.
        weakref.finalize(self, abandon, self._call, os.getpid()).atexit = False

    def send(self, message: Any) -> None:
        """Send one more message; waits until the one before has left."""
        while SENT in self._due:
            self._next()
        self._begin(cygrpc.SendMessageOperation(packed(message), 0), SENT)

    def receive(self) -> Any:
        """The next answer."""
        data = None
        if self._begin(cygrpc.ReceiveMessageOperation(0), CAME):
            while CAME in self._due:
                event = self._next()
                if event.tag == CAME:
                    data = event.batch_operations[0].message()
        if data is not None:
            return self._read(data)
        while OVER in self._due:
            self._next()
        if self._end is None:
            raise UnavailableError("the server has ended the stream")
        raise self._failure(self._end) from None

    def _begin(self, operation: Any, tag: str) -> bool:
        """Have the core do something; whether it does, for a call that is over has no more."""
        if OVER not in self._due:
            return False
        try:
            begins = bool(self._call.operate((operation,), tag))
        except ValueError:  # it is over
            return False
        if begins:
            self._due.add(tag)
        return begins

    def _next(self) -> Any:
        """What has come to its end next; of what is under way."""
        try:
            event = self._call.next_event()
            self._due.discard(event.tag)
        except BaseException:  # of a signal: the core lets go of the call, and must not be asked
            self._due.clear()
            raise
        if event.tag == OVER:
            self._end = end_of(event.batch_operations[0])
        return event

    def close(self) -> None:
        """End the call, and wait for the core to be done with it."""
        self._call.cancel(cygrpc.StatusCode.cancelled, "nobody waits for it")
        # When the last one has come the core's queue is gone, and must not be asked again.
        while self._due:
            self._next()


def end_of(status: Any) -> Exception | None:
    """How a call has ended; None: well."""
    code = CODES.get(status.code(), grpc.StatusCode.UNKNOWN)
    if code is grpc.StatusCode.OK:
        return None
    trailing = tuple((one[0], one[1]) for one in status.trailing_metadata() or ())
    return Ended(code, status.details() or "", trailing)


class QueuedDuplex(Duplex):
    """A call whose messages gRPC takes from a queue, in a thread of its own."""

    def __init__(self, call: Any, metadata: Metadata, failure: Failure) -> None:
        self._failure = failure
        self._messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._call = call(iter(self._messages.get, None), metadata=metadata)

    def send(self, message: Any) -> None:
        """Send one more message."""
        self._messages.put(message)

    def receive(self) -> Any:
        """The next answer."""
        try:
            return next(self._call)
        except StopIteration:
            raise UnavailableError("the server has ended the stream") from None
        except grpc.RpcError as error:
            raise self._failure(error) from None

    def close(self) -> None:
        """End the call."""
        self._messages.put(None)
        self._call.cancel()
