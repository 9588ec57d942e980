"""What the server needs of grpcio that is not public: lines, and word of refused messages.

A line is the server's side of a stream of small calls, driven by the thread of the stream alone.

grpcio wakes that thread twice for each message, when one has come and when its answer has left.
Here the core is asked for both at once, "send this, and tell of the next one", so it is woken once.
Where a release does not have the parts for it, or has them otherwise, there is no such line, and
the stream is read and written as grpcio does.

Of a message beyond the limit grpcio tells the service only that its caller is gone, as of one who
has cancelled. The core knows: to receive it has failed. Without that part nobody hears of it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

try:
    from grpc import _server as core
    from grpc._cython import cygrpc

    PARTS = (
        cygrpc.ReceiveMessageOperation,
        cygrpc.SendMessageOperation,
        core._get_initial_metadata_operation,
        core._is_rpc_state_active,
        core._possibly_finish_call,
        core._OPEN,
        core._CLOSED,
    )
except (ImportError, AttributeError):  # pragma: no cover - every release so far has it
    cygrpc = core = None

__all__ = ["ServerLine", "hear_refusals", "line_of"]

# What grpcio's own set of what is under way has for it.
EXCHANGE = "exchange_messages"


class ServerLine:
    """One stream, for the thread that runs it. Nothing else may read it, or write to it meanwhile.

    Args:
        call: The call of the core.
        state: What grpcio knows of it.
        refused: Called when the first message was refused.

    Attributes:
        left_nothing: Whether the stream has ended while no message was under way, and no answer.
    """

    def __init__(self, call: Any, state: Any, refused: Callable[[], None]) -> None:
        self.left_nothing = False
        self._call, self._state = call, state
        self._refused = refused
        # Held while nothing has come.
        self._came = threading.Lock()
        self._came.acquire()
        self._data: bytes | None = None

    def exchange(self, answer: bytes | None, begun: Callable[[], None]) -> bytes | None:
        """Send an answer, and wait for the next message; None: the caller sends no more.

        Args:
            answer: To the last message; None: there was none.
            begun: Called when the answer is on its way, before the wait.
        """
        state = self._state
        with state.condition:
            if not core._is_rpc_state_active(state):
                self.left_nothing = answer is None
                return None
            # What fails with an answer may be to send it, to who has left.
            told = self._arrived if answer is not None else hearing(self._arrived, self._refused)
            self._call.start_server_batch(self._operations(answer), told)
            state.due.add(EXCHANGE)
        begun()
        self._came.acquire()
        data, self._data = self._data, None
        return data

    def _operations(self, answer: bytes | None) -> tuple[Any, ...]:
        """What the core is to do. Requires the lock of the state."""
        receive = cygrpc.ReceiveMessageOperation(0)
        if answer is None:
            return (receive,)
        send = cygrpc.SendMessageOperation(answer, 0)
        if not self._state.initial_metadata_allowed:
            return receive, send
        self._state.initial_metadata_allowed = False
        return receive, send, core._get_initial_metadata_operation(self._state, None)

    def _arrived(self, event: Any) -> Any:
        """Take the message, in grpcio's thread: None if there is none."""
        state, data = self._state, event.batch_operations[0].message()
        try:
            with state.condition:
                if data is None and state.client is core._OPEN:
                    state.client = core._CLOSED
                return core._possibly_finish_call(state, EXCHANGE)
        finally:
            # To receive nothing succeeds unless something came that was refused; an answer that
            # nobody takes fails.
            self.left_nothing = data is None and event.success
            self._data = data
            self._came.release()


class ReceivingCall:
    """The call of the core as a stream of requests has it, which only receives.

    Args:
        call: That call.
        refused: Called when a message was refused.
    """

    def __init__(self, call: Any, refused: Callable[[], None]) -> None:
        self._call, self._refused = call, refused

    def start_server_batch(self, operations: Any, told: Callable[[Any], Any]) -> Any:
        """Receive a message."""
        return self._call.start_server_batch(operations, hearing(told, self._refused))


def hearing(told: Callable[[Any], Any], refused: Callable[[], None]) -> Callable[[Any], Any]:
    """What is told of a message, after whom a refusal is told to."""

    def hear(event: Any) -> Any:
        if not event.success:
            refused()
        return told(event)

    return hear


def hear_refusals(requests: Any, refused: Callable[[], None]) -> None:
    """Have something called when a message of a stream is refused; in a thread of grpcio's."""
    call = getattr(requests, "_call", None)
    if core is not None and hasattr(call, "start_server_batch"):
        requests._call = ReceivingCall(call, refused)


def line_of(context: Any, refused: Callable[[], None]) -> ServerLine | None:
    """The line of a stream that nothing was read from yet; None if this grpcio has none.

    Args:
        context: Of the stream.
        refused: Called when its first message was refused.
    """
    if core is None:
        return None
    call = getattr(getattr(context, "_rpc_event", None), "call", None)
    state = getattr(context, "_state", None)
    if not hasattr(call, "start_server_batch") or not hasattr(state, "initial_metadata_allowed"):
        return None
    return ServerLine(call, state, refused)
