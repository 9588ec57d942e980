"""A call of grpcio's core that the calling thread drives alone.

With grpcio's own streams each message passes through two more threads, which wait for the
interpreter, too; its calls that are answered in one message do without, by a part of grpcio to
which streams have no public door. That part is used here; where a release does not have it, or has
it otherwise, a call cannot begin.
"""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from typing import Any

try:
    from grpc._cython import cygrpc
except ImportError:  # pragma: no cover - every release so far has it
    cygrpc = None

__all__ = ["DrivenCall", "Metadata", "cygrpc"]

# What is under way in the core: the beginning, and the end.
BEGUN, OVER = "begun", "over"

Metadata = tuple[tuple[str, str], ...]


class DrivenCall(ABC):
    """A call with messages in both directions, for one thread at a time.

    Args:
        channel: Of `grpc`.
        path: Of the method.
        metadata: That the call begins with.

    Raises:
        AttributeError, TypeError: This release of grpcio, or this process, has no such calls.
        ValueError: The channel is closed.
    """

    def __init__(self, channel: Any, path: str, metadata: Metadata) -> None:
        self._due = {BEGUN, OVER}
        self._call = begun(channel, path.encode(), metadata)
        # An interrupt may make its user lose it anywhere; then the server shall not keep it open.
        weakref.finalize(self, abandon, self._call, os.getpid()).atexit = False

    @property
    def over(self) -> bool:
        """Whether its end has come."""
        return OVER not in self._due

    def _begin(self, operations: tuple[Any, ...], tag: str) -> bool:
        """Have the core do something; whether it does, for a call that is over has no more."""
        if self.over:  # its queue may be gone
            return False
        try:
            begins = bool(self._call.operate(operations, tag))
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
            self._has_ended(event.batch_operations[0])
        return event

    @abstractmethod
    def _has_ended(self, status: Any) -> None:
        """Its end has come: a code, details and metadata."""

    def cancel(self) -> None:
        """End the call, from any thread; whoever waits for an answer gets none."""
        self._call.cancel(cygrpc.StatusCode.cancelled, "nobody waits for it")

    def close(self) -> None:
        """End the call, and wait for the core to be done with it."""
        self.cancel()
        # When the last one has come the core's queue is gone, and must not be asked again.
        while self._due:
            self._next()


def begun(channel: Any, path: bytes, metadata: Metadata) -> Any:
    """A call of the core, whose events are read by whoever asks for them."""
    # Where the core survives forks it waits for the end of all calls, and those here may have none.
    if cygrpc is None or cygrpc.is_fork_support_enabled():
        raise AttributeError("no such calls")
    begins = (
        cygrpc.SendInitialMetadataOperation(metadata, 0),
        cygrpc.ReceiveInitialMetadataOperation(0),
    )
    ends = (cygrpc.ReceiveStatusOnClientOperation(0),)
    return channel._channel.segregated_call(
        cygrpc.PropagationConstants.GRPC_PROPAGATE_DEFAULTS,
        path,
        None,
        None,
        metadata,
        None,
        ((begins, BEGUN), (ends, OVER)),
        None,
    )


def abandon(call: Any, process: int) -> None:
    """End a call of the core that nobody has any more; in the process that has made it."""
    if process == os.getpid():
        call.cancel(cygrpc.StatusCode.cancelled, "nobody has it")
