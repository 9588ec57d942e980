"""The life of a server: from the hub's opening to its close, on one port, until it is told to stop.

It runs on the synchronous server of grpcio: a call is a thread from a bounded pool, for as long as
it runs (`admission.py` bounds that), and idle connections cost none. The engine works without the
GIL.
"""

from __future__ import annotations

import logging
import resource
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ehub.errors import UnavailableError
from ehub.hub import Hub
from ehub.server.admission import Admission, call_streams_max, threads_for
from ehub.server.config import ServerConfig
from ehub.server.inner_calls import InnerCalls
from ehub.wire.methods import handlers, handlers_by_path
from ehub.wire.pem import contents, require_authority, require_pair

__all__ = ["Server", "Service", "authenticates", "credentials"]

log = logging.getLogger("ehub.server")

# Calls beyond those that are let in: they wait for a moment to be refused.
WAITING_MAX = 1_000
HANDSHAKE_MS_MAX = 20_000
DESCRIPTORS_MAX = 1 << 20


@dataclass(frozen=True, slots=True)
class Service:
    """A gRPC service: its descriptor, and an object with a method of the same name for each RPC.

    `offered` is called when a server is made that offers it, and given what runs calls of it from
    within; `stopping` when that server takes no more calls, and `close` when it has stopped, before
    the hub is closed.
    """

    descriptor: ServiceDescriptor
    servicer: Any
    close: Callable[[], None] = lambda: None
    offered: Callable[[InnerCalls], None] = lambda calls: None
    stopping: Callable[[], None] = lambda: None


def authenticates(interceptors: Sequence[grpc.ServerInterceptor]) -> bool:
    """Whether callers have to prove who they are, as of now."""
    return any(getattr(one, "authenticates", False) for one in interceptors)


class Server:
    """A hub on a port.

    Args:
        hub: The hub, open; it stays the caller's to close, after `stop()`.
        config: Where to listen, and the limits.
        services: What is offered beside health and reflection.
        interceptors: What every call goes through, the first one outermost. One of them with the
            attribute `authenticates = True` is what makes it safe to listen beyond this machine. If
            it has a method `close()`, that is called when the server has stopped.
        watching: What goes before these and sees all calls, those too for which there is no place.

    Raises:
        InvalidArgumentError: It would listen beyond this machine without TLS or authentication.
    """

    def __init__(
        self,
        hub: Hub,
        config: ServerConfig,
        services: Sequence[Service] = (),
        interceptors: Sequence[grpc.ServerInterceptor] = (),
        watching: grpc.ServerInterceptor | None = None,
    ) -> None:
        config.require_guarded(authenticated=authenticates(interceptors))
        self._hub = hub
        self._config = config
        self._stopped = threading.Event()
        calls = config.limits.calls + call_streams_max(config.limits)
        self._threads = threads_for(calls, "ehub-call")
        # Not its way to watch without threads: that sends while it holds its lock.
        self._health = health.HealthServicer(experimental_non_blocking=False)
        self._services = tuple(services)
        outer = () if watching is None else (watching,)
        admission = Admission(config.limits, lambda: authenticates(interceptors))
        self._interceptors = (*outer, admission, *interceptors)
        self._names = [service.descriptor.full_name for service in services]
        self._server = grpc.server(
            self._threads,
            interceptors=self._interceptors,
            options=channel_options(config),
            # What is beyond that gRPC refuses itself, and nobody counts it.
            maximum_concurrent_rpcs=calls + WAITING_MAX,
        )
        self._server.add_generic_rpc_handlers(
            tuple(handlers(service.descriptor, service.servicer) for service in services)
        )
        for service in services:
            own = handlers_by_path(service.descriptor, service.servicer)
            # What comes as a message has the place of its stream.
            service.offered(InnerCalls((*outer, *interceptors), own))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*self._names, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self._port = self._listen()

    def _listen(self) -> int:
        address = address_of(self._config.host, self._config.port)
        try:
            if self._config.tls is None:
                return int(self._server.add_insecure_port(address))
            return int(self._server.add_secure_port(address, credentials(self._config)))
        except RuntimeError as error:
            raise UnavailableError(
                f"cannot listen at {address}: another process may have the port, or the address is "
                f"none of this machine's ({error})"
            ) from error

    @property
    def hub(self) -> Hub:
        """The hub."""
        return self._hub

    @property
    def port(self) -> int:
        """The port it listens at."""
        return self._port

    @property
    def address(self) -> str:
        """Where clients on this machine connect."""
        return address_of(self._config.host, self._port)

    def start(self) -> None:
        """Serve, in threads of its own, until `stop()`."""
        self._server.start()
        for name in ("", *self._names):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        log.info(
            "listening",
            extra={"address": self.address, "hub": self._hub.path, "tls": bool(self._config.tls)},
        )

    def stop(self, grace_seconds: float | None = None) -> None:
        """Take no more calls, let those in progress end, cancel them when the grace is over."""
        grace = self._config.grace_seconds if grace_seconds is None else grace_seconds
        self._health.enter_graceful_shutdown()
        log.info("stopping", extra={"grace_seconds": grace})
        stopped = self._server.stop(grace)
        for service in self._services:
            service.stopping()
        stopped.wait()
        self._threads.shutdown(wait=True, cancel_futures=True)
        for service in self._services:
            service.close()
        for one in self._interceptors:
            getattr(one, "close", lambda: None)()
        self._stopped.set()
        log.info("stopped")

    def wait(self, timeout_seconds: float | None = None) -> bool:
        """Wait until it has stopped; whether it has."""
        return self._stopped.wait(timeout_seconds)

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def address_of(host: str, port: int) -> str:
    """Host and port as grpcio takes them; a socket of this machine has no port."""
    if host.startswith("unix:"):
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def descriptors_max() -> int:
    """How many files and connections this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return DESCRIPTORS_MAX if soft == resource.RLIM_INFINITY else min(soft, DESCRIPTORS_MAX)


def channel_options(config: ServerConfig) -> list[tuple[str, int]]:
    """The limits as grpcio knows them."""
    limits = config.limits
    keepalive_ms = int(limits.keepalive_seconds * 1e3)
    return [
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", limits.message_bytes),
        ("grpc.max_concurrent_streams", limits.connection_streams),
        ("grpc.max_metadata_size", 16 << 10),
        # The files of the hub need some, too.
        ("grpc.max_allowed_incoming_connections", descriptors_max() // 2),
        ("grpc.server_handshake_timeout_ms", HANDSHAKE_MS_MAX),
        ("grpc.keepalive_time_ms", keepalive_ms),
        ("grpc.keepalive_timeout_ms", min(keepalive_ms, 20_000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", min(keepalive_ms, 10_000)),
        # Two servers on one port would each get some of the calls.
        ("grpc.so_reuseport", 0),
    ]


def credentials(config: ServerConfig) -> grpc.ServerCredentials:
    """The certificates as grpcio takes them."""
    tls = config.tls
    assert tls is not None
    certificate = contents(tls.certificate, "the certificate")
    key = contents(tls.key, "the private key")
    trusted = None if tls.client_ca is None else contents(tls.client_ca, "the clients' CA")
    require_pair(tls.certificate, tls.key)
    if tls.client_ca is not None:
        require_authority(tls.client_ca, "the clients' CA")
    return grpc.ssl_server_credentials(
        [(key, certificate)],
        root_certificates=trusted,
        require_client_auth=tls.client_ca is not None,
    )
