"""A port beside gRPC's: connections, TLS, and HTTP as far as reading needs it, which is little.

On `http.server`, with what a server that others reach needs beside it: a connection is a thread
from a bounded pool, takes one request and has a time limit that counts from its beginning, so
whoever is slow on purpose holds a place for a minute at most, and none of the service's own.
"""

from __future__ import annotations

import http.client
import logging
import socket
import ssl
import threading
import time
from abc import abstractmethod
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BufferedIOBase
from socketserver import TCPServer
from typing import Any, cast

from ehub.errors import InvalidArgumentError, UnavailableError
from ehub.server.config import Tls

__all__ = ["Answer", "Exchange", "HttpPort"]

log = logging.getLogger("ehub.server.http")

PORT_MAX = 65_535
CONNECTION_SECONDS = 60.0
PAUSE_SECONDS = 10.0  # within a request or its answer
HEAD_BYTES = 32 << 10


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent."""

    status: HTTPStatus
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


class HttpPort(TCPServer):
    """Takes connections and answers them, in threads of its own.

    Args:
        what: What it serves, as an error says it.
        host: The address to listen at.
        port: The port; 0 is any that is free.
        exchange: What answers a request.
        tls: Encryption; None is none. Clients must have a certificate if gRPC's must.
        connections: At once; more are closed.

    Raises:
        InvalidArgumentError: That is no host or port for HTTP.
        UnavailableError: It cannot listen there.
    """

    allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        what: str,
        host: str,
        port: int,
        exchange: type[Exchange],
        tls: Tls | None,
        connections: int,
    ) -> None:
        if host.startswith("unix:") or not 0 <= port <= PORT_MAX:
            raise InvalidArgumentError(
                f"{what} is to be at {host!r:.100}, port {port}; HTTP needs a host, as 127.0.0.1, "
                f"and a port from 0 to {PORT_MAX:,}"
            )
        self._tls = None if tls is None else tls_context(tls)
        self._places = threading.BoundedSemaphore(connections)
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="ehub-http")
        self._begun: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        try:
            self.address_family, address = resolved(host, port)
            super().__init__(address, exchange)
        except OSError as error:
            raise UnavailableError(
                f"cannot serve {what} at {host}:{port}: another process may have the port, or the "
                f"address is none of this machine's ({error})"
            ) from error
        self._thread = threading.Thread(
            target=self.serve_forever, name="ehub-http-accept", daemon=True
        )

    @property
    def port(self) -> int:
        """The port it listens at."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Answer, until `stop()`."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more connections, and end those there are. Stopping twice is fine."""
        if self._thread.is_alive():
            self.shutdown()
        self.server_close()
        self._end(time.monotonic())
        self._threads.shutdown(wait=True)

    # --- connections ---

    def get_request(self) -> tuple[socket.socket, Any]:
        """A connection; TLS is agreed on in a thread of its own, for that waits for the other."""
        connection, peer = super().get_request()
        connection.settimeout(PAUSE_SECONDS)
        if self._tls is not None:
            connection = self._tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, peer

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread, or close it if all are taken."""
        if not self._places.acquire(blocking=False):
            self.close_request(request)
            return
        with self._lock:
            self._begun[request] = time.monotonic()
        self._threads.submit(self._answer, request, client_address)

    def _answer(self, connection: socket.socket, peer: Any) -> None:
        try:
            if isinstance(connection, ssl.SSLSocket):
                connection.do_handshake()
            self.finish_request(connection, peer)
        except OSError as error:  # they are gone, too slow, or speak no TLS
            log.debug("a connection has ended", extra={"error": str(error)})
        except Exception as error:
            log.error("internal error", exc_info=error)
        finally:
            with self._lock:
                self._begun.pop(connection, None)
            self.shutdown_request(connection)
            self._places.release()

    def service_actions(self) -> None:
        """Now and then: end connections whose time is over."""
        self._end(time.monotonic() - CONNECTION_SECONDS)

    def _end(self, begun_until: float) -> None:
        with self._lock:
            late = [one for one, begun in self._begun.items() if begun <= begun_until]
        for connection in late:
            try:
                # Of the socket itself: TLS would want to say goodbye.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
            except OSError:
                continue


class Exchange(BaseHTTPRequestHandler):
    """One request and its answer. Nothing is logged of a request as it came."""

    protocol_version = "HTTP/1.1"

    @abstractmethod
    def answered(self) -> Answer:
        """The answer to what `path` and `headers` ask."""

    @abstractmethod
    def refused(self, status: HTTPStatus, why: str) -> Answer:
        """The answer to what is no request, or none to read; `why` has nothing of it."""

    @property
    def peer(self) -> str:
        """Where the request came from, for the audit log."""
        return ":".join(("http", *map(str, self.client_address[:2])))

    @property
    def certificate(self) -> tuple[str, ...]:
        """The names in the client's certificate, which TLS has verified; as gRPC has them."""
        if not isinstance(self.connection, ssl.SSLSocket):
            return ()
        found: dict[str, Any] = dict(self.connection.getpeercert() or {})
        names = tuple(str(value) for _, value in found.get("subjectAltName", ()))
        subject = (pair for part in found.get("subject", ()) for pair in part)
        return names or tuple(str(value) for name, value in subject if name == "commonName")

    # --- what http.server calls ---

    def setup(self) -> None:
        """Read no more than a head can have."""
        super().setup()
        self.rfile = cast("Any", Head(self.rfile))

    def handle(self) -> None:
        """Answer one request, and no other on this connection."""
        try:
            self.handle_one_request()
        except http.client.LineTooLong:
            self.requestline, self.command = "", ""
            self.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)

    def do_GET(self) -> None:
        """Answer."""
        self._send(self.answered())

    do_HEAD = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse."""
        status, why, more = HTTPStatus(code), HTTPStatus(code).phrase, {}
        self.request_version = self.protocol_version  # whatever the request says, or does not
        if status is HTTPStatus.NOT_IMPLEMENTED:  # its word for a method that it does not find
            status, why = HTTPStatus.METHOD_NOT_ALLOWED, "there is nothing here but to read"
            more = {"Allow": "GET, HEAD"}
        answer = self.refused(status, why)
        self._send(Answer(answer.status, answer.body, {**answer.headers, **more}))

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: refusals are in the audit log."""

    def version_string(self) -> str:
        """What the server says that it is."""
        return "ehub"

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        has_body = answer.status is not HTTPStatus.NOT_MODIFIED
        length = {"Content-Length": str(len(answer.body))} if has_body else {}
        for name, value in {**answer.headers, **length, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)


class Head:
    """What lines of a request may be read from, up to a limit."""

    def __init__(self, file: BufferedIOBase) -> None:
        self._file = file
        self._left = HEAD_BYTES

    def readline(self, size: int) -> bytes:
        """A line."""
        line = self._file.readline(min(size, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise http.client.LineTooLong("head of a request")
        return line

    def close(self) -> None:
        """Close what is read from."""
        self._file.close()


def resolved(host: str, port: int) -> tuple[socket.AddressFamily, Any]:
    """How to listen at a host; an OSError if there is no such address."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # Of "localhost" the one that is on every machine; browsers try both.
    family, _, _, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    return family, address


def tls_context(tls: Tls) -> ssl.SSLContext:
    """The certificates as the `ssl` module takes them."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.certificate, tls.key)
    if tls.client_ca is not None:
        context.load_verify_locations(tls.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context
