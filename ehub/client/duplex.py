"""Calls with messages in both directions, for callers that wait."""

from __future__ import annotations

import queue
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import grpc

from ehub.client.driven_call import DrivenCall, Metadata, cygrpc
from ehub.client.lines import CODES
from ehub.errors import UnavailableError
from ehub.wire.failures import Ended
from ehub.wire.methods import Method, packed

__all__ = ["Duplex", "duplex_of"]

# What is under way in the core: a message that leaves, one that comes.
SENT, CAME = "sent", "came"

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


class DrivenDuplex(DrivenCall, Duplex):
    """A call that the calling thread drives alone.

    grpcio's own streams take messages from an iterator in a thread of theirs, which waits for the
    interpreter while the caller packs the next message: nothing is on its way until all is packed.
    Here the core has a message when `send()` returns, and sends it meanwhile.
    """

    def __init__(self, channel: Any, method: Method, metadata: Metadata, failure: Failure) -> None:
        self._read = method.response.FromString
        self._failure = failure
        self._end: Exception | None = None
        super().__init__(channel, method.path, metadata)

    def send(self, message: Any) -> None:
        """Send one more message; waits until the one before has left."""
        while SENT in self._due:
            self._next()
        self._begin((cygrpc.SendMessageOperation(packed(message), 0),), SENT)

    def receive(self) -> Any:
        """The next answer."""
        data = None
        if self._begin((cygrpc.ReceiveMessageOperation(0),), CAME):
            while CAME in self._due:
                event = self._next()
                if event.tag == CAME:
                    data = event.batch_operations[0].message()
        if data is not None:
            return self._read(data)
        while not self.over:
            self._next()
        if self._end is None:
            raise UnavailableError("the server has ended the stream")
        raise self._failure(self._end) from None

    def _has_ended(self, status: Any) -> None:
        self._end = end_of(status)


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
