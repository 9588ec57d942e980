"""Streams of small calls (`Calls` in ehub.proto), kept open: each for one call at a time.

A call that is a message of a stream costs a fraction of one that is a stream of its own. Which
calls go so is the client's choice, and none depends on it: whatever ends a stream, the call that
got no answer is made alone, which also tells what is wrong. That is sound because only reads go so.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import grpc

from ehub.client.tracing import trace_context
from ehub.wire import ehub_pb2 as pb
from ehub.wire.failures import DETAIL, Ended
from ehub.wire.methods import SMALL, packed
from ehub.wire.packing import within

__all__ = ["Line", "LineBroken", "Lines", "timed_out"]

# A server has a thread for each; more calls at once than that are made alone.
LINES_MAX = 4
# After a line was refused, or has ended by itself, none is opened for so long.
PAUSE_SECONDS = 1.0
# The same, after a line was refused for what the caller or the server is: each is in the audit log.
REFUSED_SECONDS = 600.0
REFUSALS = (
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
)

CODES = {code.value[0]: code for code in grpc.StatusCode}


class LineBroken(Exception):
    """A stream has ended without an answer to what was asked.

    Args:
        code: How it has ended; None: it was not even begun, or nobody knows.
    """

    def __init__(self, code: grpc.StatusCode | None = None) -> None:
        super().__init__(code)
        self.code = code


class Line(ABC):
    """A stream of small calls, for one caller at a time.

    Attributes:
        code: How it has ended, as far as that is known.
    """

    code: grpc.StatusCode | None = None

    @property
    @abstractmethod
    def over(self) -> bool:
        """Whether it is known to have ended."""

    @abstractmethod
    def ask(self, data: bytes, seconds: float | None) -> bytes:
        """The answer to a message.

        Args:
            data: A CallRequest.
            seconds: How long to wait; None: for as long as it takes.

        Raises:
            LineBroken: There is none.
            Ended: The time is over.
        """

    @abstractmethod
    def cancel(self) -> None:
        """End the stream, from any thread; whoever waits for an answer gets none."""

    @abstractmethod
    def close(self) -> None:
        """End the stream. Not while another thread asks."""


class Lines:
    """Those of one client. Any thread may use it, but for those of an event loop.

    Args:
        make: Opens one, or raises a LineBroken.
    """

    def __init__(self, make: Callable[[], Line]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._idle: list[Line] = []
        # Lines that an interrupt has made somebody lose are not among them for long.
        self._open: weakref.WeakSet[Line] = weakref.WeakSet()
        # Openings that were interrupted. grpcio may hold their streams, which nobody can end, until
        # the client is closed: so they count as lines.
        self._interrupted = 0
        self._paused_until = 0.0
        # Methods that an older server answers nowhere but alone.
        self._alone: set[str] = set()
        self._closed = False
        self._process = os.getpid()

    def call(self, name: str, request: Any, seconds: float | None) -> Any:
        """The answer of a method of SMALL.

        Raises:
            LineBroken: There is no line, or it has ended: nothing is known of the call. Or the
                server answers the method nowhere but alone.
            grpc.RpcError: How the call ended, as gRPC would say it.
        """
        if name in self._alone:
            raise LineBroken
        asked = packed_call(name, request, seconds)
        line = self._take()
        try:
            data = line.ask(asked, seconds)
        except LineBroken as error:
            self._lose(line)
            self._pause(error.code)
            raise
        except BaseException:  # interrupted, too: an answer may come later
            self._lose(line)
            raise
        self._give(line)
        answer = pb.CallResponse.FromString(data)
        if CODES.get(answer.code) is grpc.StatusCode.UNIMPLEMENTED:
            self._alone.add(name)
            raise LineBroken
        return answer_of(SMALL[name].response, answer)

    def _take(self) -> Line:
        # Streams of a process that this one was forked from are not its own.
        if self._process != os.getpid():
            raise LineBroken
        with self._lock:
            if self._idle:
                return self._idle.pop()
            full = len(self._open) + self._interrupted >= LINES_MAX
            if full or self._closed or time.monotonic() < self._paused_until:
                raise LineBroken
            return self._opened()

    def _opened(self) -> Line:
        """One line more. Requires the lock."""
        self._interrupted += 1  # until it is known that this one was not
        try:
            line = self._make()
        except Exception:
            self._interrupted -= 1
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            raise
        self._interrupted -= 1
        self._open.add(line)
        return line

    def _give(self, line: Line) -> None:
        """A line has answered; it stays open unless it has ended behind the answer."""
        with self._lock:
            if not self._closed and not line.over:
                self._idle.append(line)
                return
        self._lose(line)
        self._pause(line.code)

    def _lose(self, line: Line) -> None:
        """Nobody asks on a line any more."""
        with self._lock:
            self._open.discard(line)
        line.close()

    def _pause(self, code: grpc.StatusCode | None) -> None:
        """Open no line for a while, as one has ended so."""
        seconds = REFUSED_SECONDS if code in REFUSALS else PAUSE_SECONDS
        with self._lock:
            self._paused_until = max(self._paused_until, time.monotonic() + seconds)

    def __len__(self) -> int:
        """How many are open, idle or in use."""
        with self._lock:
            return len(self._open)

    def close(self) -> None:
        """End all, those in use among them, and open no more."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = [line for line in self._open if line not in idle]
        if self._process != os.getpid():
            return
        for line in busy:
            line.cancel()
        for line in idle:
            self._lose(line)


def packed_call(name: str, request: Any, seconds: float | None) -> bytes:
    """A CallRequest as it travels."""
    trace = trace_context()
    head = pb.CallRequest(
        method=name, timeout_seconds=seconds or 0.0, trace=dict(trace) if trace else None
    )
    asked = within(head.SerializeToString(), pb.CallRequest.REQUEST_FIELD_NUMBER, [packed(request)])
    return b"".join(asked)


def answer_of(kind: type[Any], message: pb.CallResponse) -> Any:
    """The response in a message; a grpc.RpcError if the call has failed."""
    if message.code == 0:
        return kind.FromString(message.response)
    code = CODES.get(message.code, grpc.StatusCode.UNKNOWN)
    told = message.HasField("error")
    raise Ended(
        code, message.details, ((DETAIL, message.error.SerializeToString()),) if told else ()
    )


def timed_out() -> Ended:
    """What a call ends with when its time is over, as gRPC says it."""
    return Ended(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", ())
