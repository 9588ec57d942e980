"""The way to a server: one channel, calls with deadlines, retries, and errors made exceptions.

What is here is for callers that wait; in asyncio (aio_transport.py) the same calls are awaited.
"""

from __future__ import annotations

import math
import random
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

import grpc

from ehub._progress import Beside, InThread
from ehub.client.duplex import Duplex, duplex_of
from ehub.client.lines import Line, LineBroken, Lines
from ehub.client.probing import OTHER, Found, found_at
from ehub.client.sync_line import Clock, SyncLine
from ehub.client.tracing import trace_context
from ehub.errors import ClosedError, DeadlineError, InvalidArgumentError, UnavailableError
from ehub.wire import ehub_pb2 as pb
from ehub.wire.failures import DETAIL, exception_of
from ehub.wire.methods import ACCESS, SERVICE, SMALL, methods_of
from ehub.wire.pem import contents, require_authority, require_pair
from ehub.wire.searches import Event

__all__ = ["ClientTls", "Options", "SyncTransport", "Transport"]

Answer = TypeVar("Answer")

BACKOFF_SECONDS = 0.05
BACKOFF_SECONDS_MAX = 2.0
# How often a server is asked how far a call is, for a bar.
LOOK_SECONDS = 0.5
PORT_MAX = 65_535
MESSAGE_BYTES = 1 << 30  # what a client takes; the server's limit is what counts

METHODS = {**methods_of(SERVICE), **methods_of(ACCESS)}

# How gRPC tells of an answer that is none of its own.
FOREIGN = "Received http2 header with status"
UNAVAILABLE, UNIMPLEMENTED = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNIMPLEMENTED


class NoHubError(UnavailableError):
    """There is no hub at an address, and no waiting brings one: it is not tried again."""


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How to trust a server, and be trusted: PEM files.

    Args:
        ca: Who signed the server's certificate; None: whom the system trusts.
        certificate: The client's own, for a server that asks for one (mutual TLS).
        key: Its private key.
        server_name: The name that the server's certificate must have, if not the host's.
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    key: str | Path | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class Options:
    """How to speak with a server.

    Args:
        address: "host:port".
        token: Sent with every call, as a bearer token.
        tls: Encrypted; None: not.
        timeout_seconds: Of each call that is answered in one message; None: the server's limit.
        retry_seconds: How long calls that may be repeated are tried again while the server cannot
            be reached: reads, and writes of rows, which apply once.
        longer: How whoever is told that there was no answer in time says that a call may take
            longer; None: by timeout_seconds.
    """

    address: str
    token: str | None = None
    tls: ClientTls | None = None
    timeout_seconds: float | None = None
    retry_seconds: float = 5.0
    longer: str | None = None

    @property
    def caller(self) -> tuple[tuple[str, str], ...]:
        """Who calls, as metadata."""
        return () if self.token is None else (("authorization", f"Bearer {self.token}"),)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call: who calls, and the trace that it is a part of."""
        return (*self.caller, *trace_context())

    @property
    def channel_options(self) -> list[tuple[str, Any]]:
        """As grpcio takes them."""
        named = self.tls.server_name if self.tls is not None else None
        return [
            ("grpc.max_receive_message_length", MESSAGE_BYTES),
            ("grpc.max_send_message_length", MESSAGE_BYTES),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 1_000),
            # Retries are ours: they must know which calls may be repeated.
            ("grpc.enable_retries", 0),
            *([("grpc.ssl_target_name_override", named)] if named else []),
        ]

    def credentials(self) -> grpc.ChannelCredentials:
        """The certificates as grpcio takes them.

        Raises:
            InvalidArgumentError: A file is missing, or has something else.
        """
        tls = self.tls
        assert tls is not None
        if (tls.certificate is None) != (tls.key is None):
            raise InvalidArgumentError(
                f"certificate is {tls.certificate!r} and key {tls.key!r}; expected both, or none"
            )
        ca = certificate = key = None
        if tls.ca is not None:
            ca = contents(tls.ca, "the server's CA (ca=)")
            require_authority(tls.ca, "the server's CA (ca=)")
        if tls.certificate is not None and tls.key is not None:
            certificate = contents(tls.certificate, "the client's certificate (certificate=)")
            key = contents(tls.key, "the client's private key (key=)")
            require_pair(tls.certificate, tls.key)
        return grpc.ssl_channel_credentials(ca, key, certificate)

    def advice(self) -> str:
        """What to check when there is no way to the server."""
        checks = [
            f"is a server running there (`ehub serve HUB --port ...`), and is {self.address!r} "
            "host and port",
            "does a firewall or a proxy let it through",
            "does the server want TLS (tls=...)"
            if self.tls is None
            else "is the server's certificate signed by `ca` and made for this name",
        ]
        if self.tls is not None and self.tls.certificate is None:
            checks.append("does the server want a certificate of yours, too (certificate=, key=)")
        return "; ".join(checks)


class Transport(ABC):
    """Calls to a server. Any thread may use it, but for one that has none (asyncio)."""

    has_threads = True

    def __init__(self, options: Options) -> None:
        self.options = options
        self.closed = False
        # What the server takes in one message, once it has said so.
        self.message_bytes = MESSAGE_BYTES
        # How many rows, or neighbors, it takes or gives in one call; None: it has not said so.
        self.rows_max: int | None = None
        # What it gives a call whose caller says nothing, once it has said so.
        self.deadline_seconds: float | None = None
        # Whether it has ever answered.
        self._met = False
        # Streams of small calls; None: the server has none, or nobody has asked it yet.
        self.lines: Lines | None = None

    @property
    def seconds(self) -> float | None:
        """How long a call may take that is answered in one message; None: without end."""
        own = self.options.timeout_seconds
        return self.deadline_seconds if own is None else own

    # --- how a call is made ---

    @abstractmethod
    def _unary(self, name: str, request: Any, connects_within: float | None = None) -> Any:
        """One call; a grpc.RpcError as it comes.

        Args:
            name: Of the method.
            request: Its message.
            connects_within: If given, the call waits for a connection, and has so many seconds for
                that and for itself; else it fails at once where there is none.
        """

    def _in_time(self, name: str, request: Any, seconds: float) -> Any:
        """One call, with so much of its time left; for transports that have lines."""
        return self._unary(name, request)

    def _timing(self, connects_within: float | None, within: float | None) -> dict[str, Any]:
        """The deadline of a call as grpcio takes it; `within`: what is left of its time."""
        if connects_within is None:
            return {"timeout": self.seconds if within is None else within}
        return {"timeout": connects_within, "wait_for_ready": True}

    @abstractmethod
    def _stream(self, name: str, request: Any) -> Iterator[Any]:
        """The answers of one call."""

    @abstractmethod
    def _duplex(self, name: str) -> Duplex:
        """A call in both directions."""

    def open_lines(self) -> None:
        """The server takes small calls as messages of a stream: send them so from now on."""
        self.lines = Lines(self._line)

    def _line(self) -> Line:
        """Open a stream of small calls."""
        raise LineBroken

    @abstractmethod
    def sleep(self, seconds: float) -> None:
        """Wait."""

    def aside(self, ask: Callable[[], Answer]) -> Answer:
        """The result of a function that waits for something else than calls."""
        return ask()

    def event(self) -> Event:
        """What one caller waits for, and another sets."""
        return threading.Event()

    def beside(self) -> Beside:
        """What looks at a call from beside it, for a bar."""
        return InThread(LOOK_SECONDS)

    @abstractmethod
    def close(self) -> None:
        """Close the channel; calls in progress are cancelled."""

    # --- what is called ---

    def call(self, name: str, request: Any, *, again: bool = False) -> Any:
        """One call; with `again` it is repeated while the server cannot be reached."""
        if again:
            return self.repeated(lambda: self._tried(name, request))
        return self._tried(name, request)

    def _tried(self, name: str, request: Any) -> Any:
        self.require_open()
        try:
            if self.lines is not None and name in SMALL:
                return self._small(self.lines, name, request)
            answer = self._unary(name, request)
        except grpc.RpcError as error:
            raise self._end_of(name, error) from None
        self._met = True
        return answer

    def _end_of(self, name: str, error: Any) -> Exception:
        """What the end of a call means that is answered in one message."""
        if self.closed:
            return ClosedError("the hub is closed")
        if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and self.seconds is not None:
            return self._late()
        met = self._met or has_detail(error)
        found = None if met else self._found(name, error.code(), error.details() or "")
        if found is None:
            return self.exception(error)
        kind = NoHubError if found.certain else UnavailableError
        return kind(f"there is no way to the hub at {self.options.address!r}: {found.text}")

    def _late(self) -> DeadlineError:
        own, limit = self.options.timeout_seconds, self.deadline_seconds
        longer = self.options.longer
        if own is None:
            return DeadlineError(
                f"there was no answer within {limit:g} seconds, the server's limit "
                f"(deadline_seconds): {longer or 'connect with a larger timeout_seconds'}, or have "
                "it raised"
            )
        if longer is not None:
            return DeadlineError(f"there was no answer within {own:g} seconds: {longer}")
        told = "" if limit is None else f", which is {limit:g} seconds"
        return DeadlineError(
            f"there was no answer within {own:g} seconds, the timeout_seconds of this connection: "
            f"connect with more, or with None for the server's limit{told}"
        )

    def _found(self, name: str, code: grpc.StatusCode, details: str) -> Found | None:
        """What is wrong at the address of a server that has not answered yet, as far as is seen."""
        # A hub of any age knows the first call of all.
        lacks = code is UNIMPLEMENTED and name == "Hello"
        if lacks or (FOREIGN in details and code is not UNAVAILABLE):
            return Found(OTHER.format(f"gRPC says {code.name}: {details}"))
        # Its own look for a name would take as long again; and who sends a status is reached.
        if code is not UNAVAILABLE or re.search(f"DNS|resolving|{FOREIGN}", details):
            return None
        return self.aside(lambda: found_at(self.options.address, self.options.tls))

    def _small(self, lines: Lines, name: str, request: Any) -> Any:
        """A call on a line; alone where there is none, in what is left of its time."""
        seconds, began = self.seconds, time.monotonic()
        with suppress(LineBroken):
            return lines.call(name, request, seconds)
        self.require_open()  # which may be why
        if seconds is None:
            return self._unary(name, request)
        return self._in_time(name, request, max(began + seconds - time.monotonic(), 0.0))

    def stream(self, name: str, request: Any) -> Iterator[Any]:
        """The answers of one call; begun again while nothing has come and nobody is reached."""
        return self._rest(*self.repeated(lambda: self._first(name, request)))

    def _first(self, name: str, request: Any) -> tuple[Any, Any, bool]:
        self.require_open()
        answers = self._stream(name, request)
        try:
            return next(answers), answers, True
        except StopIteration:
            return None, answers, False
        except grpc.RpcError as error:
            raise self.exception(error) from None

    def _rest(self, first: Any, answers: Any, some: bool) -> Iterator[Any]:
        try:
            if some:
                yield first
                yield from answers
        except grpc.RpcError as error:
            raise self.exception(error) from None
        finally:
            answers.cancel()  # whoever reads may have had enough

    def duplex(self, name: str) -> Duplex:
        """A call in both directions; its errors are exceptions of ehub."""
        self.require_open()
        return self._duplex(name)

    def repeated(self, attempt: Callable[[], Answer]) -> Answer:
        """Try until it is done, or for long enough.

        It pauses longer each time, and waits for a connection besides: a try while there is none
        is for nothing, and a pause might miss the time in which there is one.
        """
        deadline = time.monotonic() + self.options.retry_seconds
        pause = BACKOFF_SECONDS
        while True:
            try:
                return attempt()
            except NoHubError:
                raise
            except UnavailableError:
                # Spread, so that clients of a server that comes back do not come all at once.
                wait = pause * random.uniform(0.5, 1.5)
                if self.closed or time.monotonic() + wait > deadline:
                    raise
            self.sleep(wait)
            self._connected(deadline - time.monotonic())
            pause = min(2 * pause, BACKOFF_SECONDS_MAX)

    def _connected(self, seconds: float) -> None:
        """Wait until the server answers, for at most so long; what it says does not matter."""
        self.require_open()
        with suppress(grpc.RpcError):
            self._unary("Hello", pb.HelloRequest(), connects_within=max(seconds, 0.0))

    def exception(self, error: Any) -> Exception:
        """What the end of a call means."""
        if self.closed:
            return ClosedError("the hub is closed")
        made = exception_of(error.code(), error.details(), error.trailing_metadata())
        if error.code() is grpc.StatusCode.UNAVAILABLE and not has_detail(error):
            return UnavailableError(
                f"there is no way to the hub at {self.options.address!r} ({error.details()}); "
                f"check: {self.options.advice()}?"
            )
        return made

    def require_open(self) -> None:
        """Refuse calls after close()."""
        if self.closed:
            raise ClosedError("the hub is closed")


def has_detail(error: Any) -> bool:
    """Whether the server itself said it."""
    return any(key == DETAIL for key, _ in error.trailing_metadata() or ())


class SyncTransport(Transport):
    """Calls that block the thread."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._channel = (
            grpc.insecure_channel(options.address, options.channel_options)
            if options.tls is None
            else grpc.secure_channel(
                options.address, options.credentials(), options.channel_options
            )
        )
        self._calls = {name: method.call(self._channel) for name, method in METHODS.items()}
        self._clock = Clock()

    def _line(self) -> Line:
        return SyncLine(self._channel, self.options.caller, self._clock)

    def _unary(
        self,
        name: str,
        request: Any,
        connects_within: float | None = None,
        within: float | None = None,
    ) -> Any:
        timing = self._timing(connects_within, within)
        try:
            return self._calls[name](request, metadata=self.options.metadata, **timing)
        except ValueError:  # another thread has closed the channel
            self.require_open()
            raise

    def _in_time(self, name: str, request: Any, seconds: float) -> Any:
        return self._unary(name, request, within=seconds)

    def _stream(self, name: str, request: Any) -> Iterator[Any]:
        answers: Iterator[Any] = self._calls[name](request, metadata=self.options.metadata)
        return answers

    def _duplex(self, name: str) -> Duplex:
        try:
            return duplex_of(self._channel, METHODS[name], self.options.metadata, self.exception)
        except ValueError:  # another thread has closed the channel
            self.require_open()
            raise

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def close(self) -> None:
        """Close the channel."""
        if not self.closed:
            self.closed = True
            self._clock.close()
            if self.lines is not None:
                self.lines.close()
            self._channel.close()


def require_seconds(seconds: object) -> float | None:
    """A time that a call may take; None: as long as the server lets it."""
    if seconds is None:
        return None
    number = as_seconds(seconds, "timeout_seconds")
    if not 0 < number < math.inf:
        raise InvalidArgumentError(
            f"timeout_seconds is {seconds}; expected a finite number above 0, or None for the "
            "server's limit"
        )
    return number


def require_retry(seconds: object) -> float:
    """How long calls are tried again; 0: not at all."""
    number = as_seconds(seconds, "retry_seconds")
    if not 0 <= number < math.inf:
        raise InvalidArgumentError(
            f"retry_seconds is {seconds}; expected a finite number of 0 or more; 0: no call is "
            "tried again"
        )
    return number


def as_seconds(seconds: object, name: str) -> float:
    """A time as a float; a TypeError for what is no number."""
    if not isinstance(seconds, Real) or isinstance(seconds, bool):
        raise TypeError(f"{name} is {seconds!r:.100}; expected a number")
    return float(seconds)


def require_token(token: object) -> str | None:
    """A token as it can travel; what is wrong is said without it."""
    if token is None:
        return None
    if not isinstance(token, str):
        raise TypeError(f"token is a {type(token).__name__}; expected a str, or None")
    if not re.fullmatch(r"[!-~](?:[ -~]*[!-~])?", token):
        raise InvalidArgumentError(
            "token is empty, or has characters that no token has; expected printable ASCII without "
            "white space around it: one that was read from a file may end with a newline, so strip "
            "it"
        )
    return token


def require_address(address: object) -> str:
    """Host and port as grpcio takes them."""
    if not isinstance(address, str):
        raise TypeError(f"address is {address!r:.100}; expected a str such as 'host:port'")
    if not re.fullmatch(r"unix:.+|[^\s/]+:\d{1,5}", address):
        raise InvalidArgumentError(
            f"address is {address!r:.100}; expected 'host:port'. A directory is opened by "
            "ehub.open()"
        )
    if not address.startswith("unix:") and not 1 <= int(address.rpartition(":")[2]) <= PORT_MAX:
        raise InvalidArgumentError(
            f"address is {address!r:.100}; expected 'host:port' with a port from 1 to {PORT_MAX:,}"
        )
    return address
