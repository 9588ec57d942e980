"""Who is let in: how many calls are in progress, whose they are, and how long they may keep still.

A call holds a thread while it waits for its caller: for its request, for the next message of a
stream, for an answer to be read. Whoever opens calls and says nothing would hold them all. So a
call ends (CANCELLED, which clients of ours take for a server to try again) when its caller has kept
it waiting for too long, and nobody has more than three quarters of the places: others get in.

Calls are slow on a connection that has just sent what is no request, for finding that out costs as
much as answering: they wait before they are read. A message larger than the limit is such a one,
too: gRPC refuses that when it is to be read; by then so much of it as may be under way on the
connection (20 MB on a fast one) has cost more than most answers. Who sends nothing, or leaves, does
not offend.

A caller is who shows the same token where tokens are checked, else whoever comes from the same
address. Whom the guard refuses holds no place, and no thread (`handlers.refusing`). Health checks,
which strangers may ask for, have places and threads of their own, those that watch apart from those
that ask once, and count by address.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NoReturn

import grpc

from ehub.errors import InvalidArgumentError, UnavailableError
from ehub.server import scope
from ehub.server.calls import CallerLeftError
from ehub.server.checked_call import abort
from ehub.server.config import Limits
from ehub.server.handlers import Behaviour, around, close, refuses
from ehub.server.interceptor import token_of
from ehub.server.rules import HEALTH, RULES
from ehub.server.server_line import hear_refusals
from ehub.server.watching import code_of
from ehub.wire.methods import CALLS, Unreadable

__all__ = ["Admission", "Visit", "call_streams_max", "threads_for"]

log = logging.getLogger("ehub.server.admission")

CHECK_SECONDS_MAX = 1.0
# Threads beyond those of calls that are let in: they find out who calls, and tell the others that
# there is no place.
REFUSING = 8
# Health checks that ask once, and that watch; how long they may keep still; how long one may watch.
CHECKS, WATCHES, HEALTH_SECONDS, WATCH_SECONDS = 32, 32, 5.0, 600.0
# How long calls on a connection wait after it has sent what is no request; such connections that
# are remembered.
OFFENCE_SECONDS, OFFENDERS_MAX = 1.0, 10_000


class Places:
    """So many calls at once, of which one caller has three quarters at most. Any thread may use it.

    Args:
        what: The limit that says how many, for those who are refused.
        count: So many.
    """

    def __init__(self, what: str, count: int) -> None:
        self._what, self._count = what, count
        self._share = count - count // 4
        self._lock = threading.Lock()
        self._taken, self._held = 0, Counter[str]()

    def take(self, caller: str) -> None:
        """Take a place; an UnavailableError if there is none for this caller."""
        with self._lock:
            if self._taken >= self._count:
                held = f"the server has {self._count:,} {self._what} in progress"
            elif self._held[caller] >= self._share:
                held = (
                    f"you have {self._share:,} {self._what} in progress, all that one caller gets"
                )
            else:
                self._held[caller] += 1
                self._taken += 1
                return
        raise UnavailableError(
            f"{held}; its limit `{self._what}` is {self._count:,}: try again later"
        )

    def give_back(self, caller: str) -> None:
        """Give one back."""
        with self._lock:
            self._taken -= 1
            self._held[caller] -= 1
            if self._held[caller] == 0:
                del self._held[caller]


class Offenders:
    """Connections that have just sent what is no request. Any thread may use it.

    Those of a socket of this machine have no address of their own, and none of them is slow.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: OrderedDict[str, float] = OrderedDict()

    def add(self, peer: str) -> None:
        """Another one, by its address and port."""
        if peer.startswith("unix:"):
            return
        with self._lock:
            self._last[peer] = time.monotonic()
            self._last.move_to_end(peer)
            if len(self._last) > OFFENDERS_MAX:
                self._last.popitem(last=False)

    def wait(self, peer: str) -> None:
        """Wait until it was long enough ago."""
        last = self._last.get(peer)
        if last is not None:
            time.sleep(max(0.0, last + OFFENCE_SECONDS - time.monotonic()))


class Visit:
    """One call from when it is let in to its end, for its thread and for who looks after all."""

    __slots__ = (
        "__weakref__",
        "caller",
        "context",
        "ends",
        "offenders",
        "peer",
        "places",
        "seconds_max",
        "since",
    )

    def __init__(
        self,
        caller: str,
        context: grpc.ServicerContext,
        places: list[Places],
        seconds_max: float,
        offenders: Offenders,
    ) -> None:
        self.caller, self.context, self.places = caller, context, places
        self.peer = context.peer()  # which gRPC forgets when the caller is gone
        self.seconds_max, self.offenders = seconds_max, offenders
        self.since: float | None = None  # when it began to wait for its caller; None: it works
        self.ends: float | None = None  # when it is over, whatever it does; None: when it is done

    def wait(self) -> None:
        """What comes next is the caller's to do."""
        self.since = time.monotonic()

    def work(self) -> None:
        """What comes next is ours."""
        self.since = None

    def offend(self) -> None:
        """The caller has sent what is no request."""
        self.offenders.add(self.peer)

    def be_patient(self) -> None:
        """Wait, if what came last on the connection was no request."""
        self.offenders.wait(self.peer)

    def is_late(self, now: float) -> bool:
        """Whether it has to end: it waits for its caller for too long, or its time is over."""
        since, ends = self.since, self.ends
        waited = since is not None and now - since > self.seconds_max
        return waited or (ends is not None and now > ends)

    def each(self, requests: Iterator[Any]) -> Iterator[Any]:
        """The messages of the caller, waited for."""
        while (request := self._next(requests)) is not None:
            yield request

    def _next(self, requests: Iterator[Any]) -> Any:
        """The next message; None if there is none.

        gRPC tells of the end of a stream and of a caller who has left apart, and of a stream that
        was cut it may tell the end first (its issue 33038). Asked once more it knows.
        """
        self.wait()
        try:
            request = next(requests, None)
            if request is None:
                request = next(requests, None)
        except grpc.RpcError as error:
            self._be_left(error)
        self.work()
        if type(request) is Unreadable:
            self.offend()
        return request

    def _be_left(self, error: grpc.RpcError) -> NoReturn:
        """The caller has left: end the call by something that grpcio does not keep.

        It keeps its own exceptions with the call. What they have come through has the call, so all
        of it would stay until garbage is collected, and gRPC refuses the further calls of a
        connection of which it holds too many.
        """
        error.__traceback__ = None
        code = code_of(self.context, grpc.StatusCode.CANCELLED)
        with suppress(Exception):  # it says so by one
            self.context.abort(code, "the caller is gone")
        raise CallerLeftError

    def only(self, requests: Iterator[Any]) -> Any:
        """The one message of a caller who sends one; without it the call ends."""
        request = self._next(requests)
        if request is None:
            abort(self.context, InvalidArgumentError("the call has no request; expected one"))
        return request


class Admission(grpc.ServerInterceptor):  # type: ignore[misc]
    """Lets calls in, and ends those that wait in vain; outside of the guard, within what watches.

    A request that comes alone is read as a stream of one: grpcio reads it in the call's thread, and
    tells of the call only then.
    """

    def __init__(self, limits: Limits, authenticates: Callable[[], bool] = lambda: False) -> None:
        self._idle_seconds = limits.idle_seconds
        self._authenticates = authenticates
        self._calls = Places("calls", limits.calls)
        self._streams = Places("streams", limits.streams)
        # Of those that are open `call_streams.py` says how many there may be; some are about to be.
        self._call_streams = Places("streams of calls", call_streams_max(limits))
        self._checks = Places("health checks", CHECKS)
        self._watches = Places("health watches", WATCHES)
        self._health_threads = threads_for(CHECKS + WATCHES, "ehub-health")
        self._offenders = Offenders()
        self._visits: set[Visit] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._looker = threading.Thread(target=self._look, name="ehub-admission", daemon=True)
        self._looker.start()

    def close(self) -> None:
        """Look after nobody any more; when the server has stopped."""
        self._closed.set()
        self._looker.join()
        self._health_threads.shutdown()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler | None],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler | None:
        """The handler of a call, with a door before it."""
        handler = continuation(details)
        if handler is None or refuses(handler):
            return handler
        if details.method.startswith(f"/{HEALTH}/"):
            seconds = min(HEALTH_SECONDS, self._idle_seconds)
            places = [self._watches if handler.response_streaming else self._checks]
            return self._admitting(handler, places, seconds, self._health_threads)
        streams = handler.request_streaming or handler.response_streaming
        places = [self._calls, self._streams] if streams else [self._calls]
        if details.method == CALLS:  # which mostly waits, and must leave the places to others
            places = [self._call_streams]
        # What anybody may call, with whatever token they make up, counts by address.
        rule = RULES.get(details.method)
        is_guarded = rule is not None and not rule.open
        return self._admitting(handler, places, self._idle_seconds, is_guarded=is_guarded)

    def _admitting(
        self,
        inner: grpc.RpcMethodHandler,
        places: list[Places],
        seconds_max: float,
        threads: ThreadPoolExecutor | None = None,
        *,
        is_guarded: bool = False,
    ) -> grpc.RpcMethodHandler:
        """A handler that lets calls in if there are places, and then does as the inner one."""

        def enter(requests: Any, context: grpc.ServicerContext) -> tuple[Visit, Any]:
            visit = self._let_in(context, places, seconds_max, is_guarded=is_guarded)
            hear_refusals(requests, visit.offend)
            return visit, (visit.each if inner.request_streaming else visit.only)(requests)

        def at_once(behaviour: Behaviour, requests: Any, context: grpc.ServicerContext) -> Any:
            visit, given = enter(requests, context)
            answer = behaviour(given, context)
            visit.wait()  # until it is read, which is when the call ends
            return answer

        def in_stream(
            behaviour: Behaviour, requests: Any, context: grpc.ServicerContext
        ) -> Iterator[Any]:
            visit, given = enter(requests, context)
            # gRPC keeps what is set here with the call, which the visit has.
            scope.visit.set(weakref.ref(visit))
            answers = behaviour(given, context)
            try:
                for answer in answers:
                    visit.wait()  # until it is read
                    yield answer
                    visit.work()
            finally:
                close(answers)

        run = in_stream if inner.response_streaming else at_once
        return around(inner, run, request_streams=True, threads=threads)

    # --- in and out ---

    def _let_in(
        self,
        context: grpc.ServicerContext,
        places: list[Places],
        seconds_max: float,
        *,
        is_guarded: bool,
    ) -> Visit:
        is_proven = self._authenticates() and is_guarded
        caller, taken = caller_of(context, by_token=is_proven), list[Places]()
        try:
            for one in places:
                one.take(caller)
                taken.append(one)
        except UnavailableError as error:
            for one in taken:
                one.give_back(caller)
            abort(context, error)
        visit = Visit(caller, context, taken, seconds_max, self._offenders)
        if self._watches in places:
            visit.ends = time.monotonic() + WATCH_SECONDS
        with self._lock:
            self._visits.add(visit)
        if not context.add_callback(lambda: self._let_out(visit)):  # it is over already
            self._let_out(visit)
        visit.be_patient()
        return visit

    def _let_out(self, visit: Visit) -> None:
        with self._lock:
            self._visits.discard(visit)
        for one in visit.places:
            one.give_back(visit.caller)

    def _look(self) -> None:
        """End the calls whose callers keep still, as long as it is open."""
        while not self._closed.wait(min(CHECK_SECONDS_MAX, self._idle_seconds / 4)):
            now = time.monotonic()
            with self._lock:
                visits = list(self._visits)
            for visit in visits:
                if visit.is_late(now):
                    log.info("ended a call that waited for too long", extra=described(visit))
                    visit.context.cancel()


def call_streams_max(limits: Limits) -> int:
    """How many streams of small calls hold a thread at once, those that are refused among them."""
    return max(1, 2 * limits.call_streams)


def threads_for(calls: int, name: str) -> ThreadPoolExecutor:
    """Threads for so many calls, and to refuse others."""
    return ThreadPoolExecutor(calls + REFUSING, thread_name_prefix=name)


def described(visit: Visit) -> dict[str, Any]:
    """A call that is ended, for the log."""
    return {"peer": visit.peer, "limit_seconds": visit.seconds_max}


def caller_of(context: grpc.ServicerContext, *, by_token: bool) -> str:
    """Who calls: the token, or the address without the port, which each connection has its own."""
    token = token_of(context.invocation_metadata()) if by_token else None
    return str(context.peer().rpartition(":")[0]) if token is None else token
