"""The server's side of a stream of small calls, driven by the thread of the stream alone.

grpcio wakes that thread twice for each message, when one has come and when its answer has left.
Here the core is asked for both at once, "send this, and tell of the next one", so it is woken once.
That needs a part of grpcio that is not public; where a release does not have it, or has it
otherwise, there is no such line, and the stream is read and written as grpcio does.
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

__all__ = ["ServerLine", "line_of"]

# What grpcio's own set of what is under way has for it.
EXCHANGE = "exchange_messages"


class ServerLine:
    """One stream, for the thread that runs it. Nothing else may read it, or write to it meanwhile.

    Args:
        call: The call of the core.
        state: What grpcio knows of it.
    """

    def __init__(self, call: Any, state: Any) -> None:
        self._call, self._state = call, state
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
                return None
            self._call.start_server_batch(self._operations(answer), self._arrived)
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
            self._data = data
            self._came.release()


def line_of(context: Any) -> ServerLine | None:
    """The line of a stream that nothing was read from yet; None if this grpcio has none."""
    if core is None:
        return None
    call = getattr(getattr(context, "_rpc_event", None), "call", None)
    state = getattr(context, "_state", None)
    if not hasattr(call, "start_server_batch") or not hasattr(state, "initial_metadata_allowed"):
        return None
    return ServerLine(call, state)
