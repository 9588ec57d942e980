"""The streams of small calls that a server has open: how many there may be, and which has to go.

Each holds a thread, also while nothing is asked on it. So there is a limit; when it is met, the one
on which nothing was asked for longest ends, and its client calls on without it.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from ehub.errors import UnavailableError

__all__ = ["CallStream", "CallStreams"]

# What was used within this time is in use.
IDLE_SECONDS = 1.0


class CallStream:
    """One of them; in a `with` block it is open.

    Args:
        of: All of them.
        context: Of the call that is the stream.
    """

    __slots__ = ("_of", "busy", "context", "used")

    def __init__(self, of: CallStreams, context: Any) -> None:
        self._of = of
        self.context = context
        self.busy = False
        self.used = time.monotonic()

    def begin(self) -> None:
        """A call was read."""
        self._of.mark(self, busy=True)

    def end(self) -> bool:
        """Its answer was sent; whether there may be another."""
        return self._of.mark(self, busy=False)

    def __enter__(self) -> CallStream:
        self._of.add(self)
        return self

    def __exit__(self, *error: object) -> None:
        self._of.remove(self)


class CallStreams:
    """All of them. Any thread may use it.

    Args:
        most: How many there may be.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._open: set[CallStream] = set()
        self._stopping = False

    def opened(self, context: Any) -> CallStream:
        """A stream that is to be opened, by a `with` block."""
        return CallStream(self, context)

    def mark(self, stream: CallStream, *, busy: bool) -> bool:
        """Note whether a stream is busy; whether it may go on."""
        with self._lock:
            stream.busy, stream.used = busy, time.monotonic()
            return not self._stopping

    def add(self, stream: CallStream) -> None:
        """One stream more.

        Raises:
            UnavailableError: There are too many, and all are in use; or the server stops.
        """
        with self._lock:
            if self._stopping:
                raise UnavailableError("the server is about to stop")
            if len(self._open) >= self.most:
                self._end_one()
            self._open.add(stream)

    def _end_one(self) -> None:
        """End the stream that was not used for longest. Requires the lock."""
        unused = time.monotonic() - IDLE_SECONDS
        idle = [one for one in self._open if not one.busy and one.used <= unused]
        if not idle:
            raise UnavailableError(
                f"the server has {self.most} streams of calls, the most that `calls` and `streams` "
                "among its limits leave room for: call without one"
            )
        oldest = min(idle, key=lambda one: one.used)
        self._open.remove(oldest)
        oldest.context.cancel()

    def remove(self, stream: CallStream) -> None:
        """A stream has ended."""
        with self._lock:
            self._open.discard(stream)

    def stop(self) -> None:
        """End those on which nothing is asked now, the others behind their answer; open no more."""
        with self._lock:
            self._stopping = True
            idle = [one for one in self._open if not one.busy]
        for one in idle:
            one.context.cancel()

    def __len__(self) -> int:
        return len(self._open)
