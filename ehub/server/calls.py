"""What every call goes through in the server: errors become statuses, and ends are noted.

A mistake of ours is INTERNAL with a number that the log has, too, and tells the caller nothing.
"""

from __future__ import annotations

import functools
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NoReturn

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from ehub.errors import CorruptionError, DeadlineError, StorageError, UnavailableError
from ehub.server import scope
from ehub.wire.failures import DETAIL, code_of, detail_of
from ehub.wire.methods import Method, methods_of, readable

__all__ = ["CallerLeftError", "Guard", "require_active"]

log = logging.getLogger("ehub.server.calls")


class CallerLeftError(Exception):
    """The caller has left before its stream of requests was whole; gRPC was told how that ends."""


class Guard:
    """Wraps the methods of a servicer. Any thread may use it.

    Args:
        hub: The hub's directory, which callers are not told.
    """

    def __init__(self, hub: str) -> None:
        self._root = hub.rstrip("/")

    def wrap(self, method: Method, behaviour: Callable[[Any, Any], Any]) -> Callable[..., Any]:
        """The method as gRPC is to run it."""
        wrap = self._stream if method.response_streams else self._unary
        return wrap(method, behaviour)

    def around(self, service: ServiceDescriptor, servicer: object) -> SimpleNamespace:
        """All methods of a servicer, wrapped."""
        methods = methods_of(service).items()
        return SimpleNamespace(
            **{name: self.wrap(method, getattr(servicer, name)) for name, method in methods}
        )

    def _unary(self, method: Method, behaviour: Callable[[Any, Any], Any]) -> Callable[..., Any]:
        read = reading(method)

        @functools.wraps(behaviour)
        def run(request: Any, context: grpc.ServicerContext) -> Any:
            began = time.perf_counter()
            try:
                require_active(context)
                answer = behaviour(read(request), context)
            except CallerLeftError:
                note(method, began, "CANCELLED")
                raise
            except Exception as error:
                if is_end(error):
                    raise
                self._fail(method, context, error, began)
            note(method, began, "OK")
            return answer

        return run

    def _stream(self, method: Method, behaviour: Callable[[Any, Any], Any]) -> Callable[..., Any]:
        read = reading(method)

        @functools.wraps(behaviour)
        def run(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
            began = time.perf_counter()
            try:
                for answer in behaviour(read(request), context):
                    yield answer
                    require_active(context)
            except CallerLeftError:
                note(method, began, "CANCELLED")
                raise
            except Exception as error:
                if is_end(error):
                    raise
                self._fail(method, context, error, began)
            note(method, began, "OK")

        return run

    def _fail(
        self, method: Method, context: grpc.ServicerContext, error: Exception, began: float
    ) -> NoReturn:
        """End a call with the status of an exception."""
        code: Any = code_of(error)
        if code is None:
            number = uuid.uuid4().hex[:12]
            about = {"method": method.name, "error": number}
            log.error("internal error", exc_info=error, extra=about)
            told = f"an internal error, {number} in the server's log"
            context.abort(grpc.StatusCode.INTERNAL, told)
        if isinstance(error, (CorruptionError, StorageError)):  # for who can see to it
            log.error("files of the hub", extra={"method": method.name, "error": str(error)})
        note(method, began, code.name, type(error).__name__)
        detail = detail_of(error)
        detail.message = self._without_root(detail.message)
        context.set_trailing_metadata(((DETAIL, detail.SerializeToString()),))
        context.abort(code, detail.message)
        raise AssertionError("abort() raises")

    def _without_root(self, message: str) -> str:
        """A message without the hub's directory, which the engine may give with a slash."""
        for root in (self._root, self._root + "/"):
            message = message.replace(f" in hub '{root}'", "")
        return message.replace(self._root + "/", "")


def reading(method: Method) -> Callable[[Any], Any]:
    """What makes of a request, or a stream of them, one that is sound."""
    return (lambda requests: map(readable, requests)) if method.request_streams else readable


def is_end(error: Exception) -> bool:
    """Whether an exception is gRPC's own way to end a call, abort()."""
    return type(error) is Exception and not error.args


def require_active(context: grpc.ServicerContext) -> None:
    """Stop work that nobody waits for any more: the caller is gone, or its time is over."""
    remaining = context.time_remaining()
    if remaining is not None and remaining <= 0:
        raise DeadlineError("the call's time was over before the server was done")
    if not context.is_active():
        raise UnavailableError("the caller is gone")


def note(method: Method, began: float, status: str, kind: str = "") -> None:
    """A line in the log for a call that has ended."""
    if not log.isEnabledFor(logging.DEBUG):
        return
    taken_ms = round((time.perf_counter() - began) * 1e3, 3)
    about = {"method": method.name, "status": status, "ms": taken_ms}
    who = scope.principal.get()
    log.debug(
        "call", extra=about | ({"kind": kind} if kind else {}) | ({"principal": who} if who else {})
    )
