"""Streams of small calls (`Calls` in ehub.proto), kept open: each for one call at a time.

A call that is a message of a stream costs a fraction of one that is a stream of its own. Which
calls go so is the client's choice, and none depends on it: whatever ends a stream, the call that
got no answer is made alone, which also tells what is wrong. That is sound because only reads go so.
"""

from __future__ import annotations

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import grpc

from ehub.client.tracing import trace_context
from ehub.wire import ehub_pb2 as pb
from ehub.wire.failures import DETAIL, Ended
from ehub.wire.methods import SMALL

__all__ = ["Line", "LineBroken", "Lines", "timed_out"]

# A server has a thread for each; more calls at once than that are made alone.
LINES_MAX = 4
# After a line was refused, or has ended by itself, none is opened for so long.
PAUSE_SECONDS = 1.0

CODES = {code.value[0]: code for code in grpc.StatusCode}


class LineBroken(Exception):
    """A stream has ended without an answer to what was asked."""


class Line(ABC):
    """A stream of small calls, for one caller at a time."""

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
        self._count = 0
        self._paused_until = 0.0
        self._closed = False
        self._process = os.getpid()

    def call(self, name: str, request: Any, seconds: float | None) -> Any:
        """The answer of a method of SMALL.

        Raises:
            LineBroken: There is no line, or it has ended: nothing is known of the call.
            grpc.RpcError: How the call ended, as gRPC would say it.
        """
        line = self._take()
        asked = pb.CallRequest(
            method=name,
            request=request.SerializeToString(),
            timeout_seconds=seconds or 0.0,
            trace=dict(trace_context()),
        )
        try:
            data = line.ask(asked.SerializeToString(), seconds)
        except BaseException as error:  # interrupted, too: an answer may come later
            self._lose(pause=isinstance(error, LineBroken))
            line.close()
            raise
        self._give(line)
        return answer_of(SMALL[name].response, pb.CallResponse.FromString(data))

    def _take(self) -> Line:
        # Streams of a process that this one was forked from are not its own.
        if self._process != os.getpid():
            raise LineBroken
        with self._lock:
            if self._idle:
                return self._idle.pop()
            full = self._count >= LINES_MAX or time.monotonic() < self._paused_until
            if full or self._closed:
                raise LineBroken
            self._count += 1
        try:
            return self._make()
        except BaseException:
            self._lose(pause=True)
            raise

    def _give(self, line: Line) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(line)
                return
        line.close()

    def _lose(self, *, pause: bool) -> None:
        with self._lock:
            self._count -= 1
            if pause:
                self._paused_until = time.monotonic() + PAUSE_SECONDS

    def close(self) -> None:
        """End all, and open no more."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for line in idle if self._process == os.getpid() else ():
            line.close()


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
