"""A stream of small calls that the calling thread drives alone; there are none where it cannot."""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any

from ehub.client.driven_call import DrivenCall, Metadata, cygrpc
from ehub.client.lines import CODES, Line, LineBroken, timed_out
from ehub.wire.methods import CALLS

__all__ = ["Clock", "SyncLine"]

# What is under way in the core: a message and its answer.
ANSWERED = "answered"
CLOCK_SECONDS_MAX = 60.0


class SyncLine(DrivenCall, Line):
    """One stream, for one thread at a time.

    Args:
        channel: Of `grpc`.
        metadata: That the stream begins with.
        clock: What ends the wait for an answer.
    """

    def __init__(self, channel: Any, metadata: Metadata, clock: Clock) -> None:
        self._clock = clock
        # Seconds of time.monotonic(); None: nobody waits, or without end. Guarded by the clock.
        self.until: float | None = None
        self.expired = False
        try:
            super().__init__(channel, CALLS, metadata)
        except (AttributeError, TypeError, ValueError) as error:
            raise LineBroken from error

    def ask(self, data: bytes, seconds: float | None) -> bytes:
        """The answer to a message."""
        try:
            self._clock.begin(self, seconds)
            answer = self._exchange(data)
        finally:
            expired = self._clock.end(self)
        if expired:  # and an answer that came all the same has nothing behind it
            raise timed_out()
        if answer is None:
            raise LineBroken(self.code)
        return answer

    def _exchange(self, data: bytes) -> bytes | None:
        exchange = (cygrpc.SendMessageOperation(data, 0), cygrpc.ReceiveMessageOperation(0))
        if not self._begin(exchange, ANSWERED):
            return None
        while (event := self._next()).tag != ANSWERED:
            pass
        answer: bytes | None = event.batch_operations[1].message()
        while answer is None and not self.over:  # how it has ended comes next
            self._next()
        return answer

    def _has_ended(self, status: Any) -> None:
        self.code = CODES.get(status.code())


class Clock:
    """Cancels the lines of a client on which an answer was waited for too long.

    A thread does, from the first wait with an end on. Waits that end later than the next one that
    it knows of do not wake it.
    """

    def __init__(self) -> None:
        # Taken by itself: an interrupt in a Condition's own `__enter__` would leave it locked.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting: set[SyncLine] = set()
        self._wakes = 0.0
        self._thread: threading.Thread | None = None
        self._closed = False

    def begin(self, line: SyncLine, seconds: float | None) -> None:
        """An answer is waited for on a line."""
        if seconds is None:
            return
        until = time.monotonic() + seconds
        with self._lock:
            line.until = until
            self._waiting.add(line)
            if self._thread is None:
                self._wakes = until
                thread = threading.Thread(
                    target=watch, args=(weakref.ref(self), self._changed), daemon=True
                )
                thread.start()
                self._thread = thread
            elif until < self._wakes:
                self._changed.notify()

    def end(self, line: SyncLine) -> bool:
        """Nobody waits there any more; whether it was for too long."""
        with self._lock:
            self._waiting.discard(line)
            line.until = None
            return line.expired

    def look(self) -> float | None:
        """Cancel what is due. Seconds until the next look; None: never. Requires the lock."""
        now = time.monotonic()
        for line in [one for one in self._waiting if one.until is not None and one.until <= now]:
            self._waiting.discard(line)
            line.expired = True
            line.cancel()
        ends = [one.until for one in self._waiting if one.until is not None]
        self._wakes = min([*ends, now + CLOCK_SECONDS_MAX])
        return None if self._closed else max(self._wakes - now, 0.0)

    def close(self) -> None:
        """No more of it."""
        with self._lock:
            self._closed = True
            self._changed.notify()


def watch(of: weakref.ref[Clock], changed: threading.Condition) -> None:
    """What the thread of a clock does, for as long as there is one."""
    while True:
        with changed:
            clock = of()
            wait = None if clock is None else clock.look()
            del clock
            if wait is None:
                return
            changed.wait(wait)
