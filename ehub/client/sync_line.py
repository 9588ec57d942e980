"""A stream of small calls that the calling thread drives alone.

With grpcio's own streams each message passes through two more threads, which takes more time than
all the rest; its calls that are answered in one message do without, by a part of grpcio to which
streams have no public door. That part is used here; where a release does not have it, or has it
otherwise, there are no lines, and calls are made one by one.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Any

from ehub.client.lines import CODES, Line, LineBroken, timed_out
from ehub.wire.methods import CALLS

try:
    from grpc._cython import cygrpc
except ImportError:  # pragma: no cover - every release so far has it
    cygrpc = None

__all__ = ["Clock", "SyncLine"]

PATH = CALLS.encode()
# What is under way in the core: the beginning, the end, a message and its answer.
BEGUN, OVER, ANSWERED = "begun", "over", "answered"
CLOCK_SECONDS_MAX = 60.0


class SyncLine(Line):
    """One stream, for one thread at a time.

    Args:
        channel: Of `grpc`.
        metadata: That the stream begins with.
        clock: What ends the wait for an answer.
    """

    def __init__(self, channel: Any, metadata: tuple[tuple[str, str], ...], clock: Clock) -> None:
        self._clock = clock
        # Seconds of time.monotonic(); None: nobody waits, or without end. Guarded by the clock.
        self.until: float | None = None
        self.expired = False
        self._due = {BEGUN, OVER}
        try:
            self._call = begun(channel, PATH, metadata)
        except (AttributeError, TypeError, ValueError) as error:
            raise LineBroken from error
        # An interrupt may make its user lose it anywhere; then the server shall not keep it open.
        weakref.finalize(self, abandon, self._call, os.getpid()).atexit = False

    @property
    def over(self) -> bool:
        """Whether its end has come."""
        return OVER not in self._due

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
        if not self._sent(data):
            return None
        while (event := self._next()).tag != ANSWERED:
            pass
        answer: bytes | None = event.batch_operations[1].message()
        while answer is None and not self.over:  # how it has ended comes next
            self._next()
        return answer

    def _sent(self, data: bytes) -> bool:
        """Whether an answer is due; not on a line that is over, whose queue may be gone."""
        if self.over:
            return False
        sent = (cygrpc.SendMessageOperation(data, 0), cygrpc.ReceiveMessageOperation(0))
        try:
            begun = self._call.operate(sent, ANSWERED)
        except ValueError:  # it is over
            return False
        if begun:
            self._due.add(ANSWERED)
        return bool(begun)

    def _next(self) -> Any:
        """What has come to its end next; of what is under way."""
        try:
            event = self._call.next_event()
            self._due.discard(event.tag)
        except BaseException:  # of a signal: the core lets go of the call, and must not be asked
            self._due.clear()
            raise
        if event.tag == OVER:
            self.code = CODES.get(event.batch_operations[0].code())
        return event

    def cancel(self) -> None:
        """End the stream, from any thread; whoever waits for an answer gets none."""
        self._call.cancel(cygrpc.StatusCode.cancelled, "nobody waits for it")

    def close(self) -> None:
        """End the stream, and wait for the core to be done with it."""
        self.cancel()
        # When the last one has come the core's queue is gone, and must not be asked again.
        while self._due:
            self._next()


def begun(channel: Any, path: bytes, metadata: tuple[tuple[str, str], ...]) -> Any:
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
