"""The streams of small calls that a server has open: how many there may be, and which has to go.

Each holds a thread, also while nothing is asked on it. So there is a limit, of which one caller has
three quarters at most. When it is met, the stream on which nothing was asked for longest ends, one
of the caller's own if it is theirs that is met, and its client calls on without it.
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
    """One of them; in a `with` block it is open. `begin` and `end` are for the thread that runs it.

    Args:
        of: All of them.
        context: Of the call that is the stream.
        caller: Who opens it.
    """

    __slots__ = ("_of", "busy", "caller", "context", "used")

    def __init__(self, of: CallStreams, context: Any, caller: str) -> None:
        self._of = of
        self.context = context
        self.caller = caller
        self.busy = False
        self.used = time.monotonic()

    def begin(self) -> None:
        """A call was read."""
        self.busy = True

    @property
    def may_go_on(self) -> bool:
        """Whether there may be another call."""
        return not self._of.stopping

    def end(self) -> None:
        """The answer is on its way; if the server stops by now, nothing else is asked."""
        self.used = time.monotonic()
        self.busy = False
        if self._of.stopping:  # which may have seen it busy
            self.context.cancel()

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
        self.stopping = False
        self._share = most - most // 4
        self._lock = threading.Lock()
        self._open: set[CallStream] = set()

    def opened(self, context: Any, caller: str) -> CallStream:
        """A stream that is to be opened, by a `with` block."""
        return CallStream(self, context, caller)

    def add(self, stream: CallStream) -> None:
        """One stream more.

        Raises:
            UnavailableError: There are too many, and all are in use; or the server stops.
        """
        with self._lock:
            if self.stopping:
                raise UnavailableError("the server is about to stop")
            own = [one for one in self._open if one.caller == stream.caller]
            if len(own) >= self._share:
                self._end_one(own, f"you have {len(own)} streams of calls, all that a caller gets")
            elif len(self._open) >= self.most:
                self._end_one(list(self._open), f"the server has {self.most} streams of calls")
            self._open.add(stream)

    def _end_one(self, streams: list[CallStream], held: str) -> None:
        """End the one of them that was not used for longest. Requires the lock."""
        unused = time.monotonic() - IDLE_SECONDS
        idle = [one for one in streams if not one.busy and one.used <= unused]
        if not idle:
            raise UnavailableError(
                f"{held}; `calls` and `streams` among its limits leave room for {self.most}: call "
                "without one"
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
            self.stopping = True
            idle = [one for one in self._open if not one.busy]
        for one in idle:
            one.context.cancel()

    def __len__(self) -> int:
        return len(self._open)
