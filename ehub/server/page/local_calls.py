"""Calls of the service from within its own process, for a page that acts on a caller's behalf.

A call goes through the server's guard as one that came over gRPC: the same table of rules, the same
filter of partitions, the same audit log. So the page can show nothing that its caller could not ask
for, and has no rules of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc

from ehub.access import NotAuthenticated, Principal
from ehub.client.duplex import Duplex
from ehub.client.remote_hub import RemoteHub
from ehub.client.transport import METHODS, Options, Transport
from ehub.errors import InvalidArgumentError
from ehub.hub import Hub
from ehub.server.inner_calls import InnerCalls, InnerContext, run_alone
from ehub.server.interceptor import AUTHORIZATION, AccessInterceptor, token_of
from ehub.server.rules import RULES
from ehub.server.serve import Service
from ehub.wire.methods import handlers_by_path

__all__ = ["Caller", "LocalHubs"]


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as far as a connection tells.

    Args:
        peer: Where from, for the audit log.
        authorization: "Bearer TOKEN"; None: nothing was sent.
        certificate: The names in the client's certificate, which TLS has verified.
    """

    peer: str
    authorization: str | None = None
    certificate: tuple[str, ...] = ()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What would come with a call of theirs."""
        return () if self.authorization is None else ((AUTHORIZATION, self.authorization),)


class LocalHubs:
    """Hubs as the callers of a service see them.

    Args:
        guard: What every call goes through.
        service: What is called: `ehub.v1.Embeddinghub`.
    """

    def __init__(self, guard: AccessInterceptor, service: Service) -> None:
        self._guard = guard
        self._calls = InnerCalls([guard], handlers_by_path(service.descriptor, service.servicer))

    def of(self, caller: Caller) -> Hub:
        """The hub, with what this caller may see and nothing else."""
        return RemoteHub(LocalTransport(self._calls, caller))

    def call(self, caller: Caller, name: str, request: Any) -> Any:
        """A call that the facade has no method for."""
        return LocalTransport(self._calls, caller).call(name, request)

    def principal(self, caller: Caller) -> str:
        """Who a caller is proven to be; "" where nobody has to prove anything."""
        return self._known(caller).name if self._guard.access.guarded else ""

    def permits(self, caller: Caller, name: str, request: Any) -> bool:
        """Whether a call would be let through: so that what would not is not tried, nor audited."""
        if not self._guard.access.guarded:
            return True
        rights = self._guard.access.rights(self._known(caller))
        needs = RULES[METHODS[name].path].needs
        return needs is None or all(
            rights.decide(need.verb, need.resource, within=need.within).allowed
            for need in needs(request)
        )

    def _known(self, caller: Caller) -> Principal:
        token = token_of(caller.metadata)
        return self._guard.access.authenticate(token, certificate=caller.certificate)


class LocalTransport(Transport):
    """Calls that are run in the caller's thread."""

    def __init__(self, calls: InnerCalls, caller: Caller) -> None:
        super().__init__(Options("this server", retry_seconds=0))
        self._calls = calls
        self._caller = caller

    def _unary(self, name: str, request: Any, connects_within: float | None = None) -> Any:
        return run_alone(self._begun(name), request, Context(self._caller))

    def _stream(self, name: str, request: Any) -> Iterator[Any]:
        handler = self._begun(name)
        run = handler.unary_stream or handler.stream_stream
        return Answers(run(request, Context(self._caller)))

    def _begun(self, name: str) -> grpc.RpcMethodHandler:
        """What runs a call, after the guard has looked at it."""
        return self._calls.handler(METHODS[name].path, self._caller.metadata)

    def _duplex(self, name: str) -> Duplex:
        raise InvalidArgumentError(f"{name} is for clients that write")

    def sleep(self, seconds: float) -> None:
        """Nobody is waited for: the server is here."""

    def close(self) -> None:
        """End the calls to come."""
        self.closed = True

    def exception(self, error: Any) -> Exception:
        """What the end of a call means; a caller who proves nothing is told apart."""
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return NotAuthenticated(error.details())
        return super().exception(error)


class Answers(Iterator[Any]):
    """The answers of a call."""

    def __init__(self, steps: Any) -> None:
        self._steps = steps

    def __next__(self) -> Any:
        return next(self._steps)

    def cancel(self) -> None:
        """End the call, and let go of what it holds."""
        self._steps.close()


class Context(InnerContext):
    """Of a call that a page makes: its caller waits for a while, and does not leave."""

    def __init__(self, caller: Caller) -> None:
        super().__init__(caller.peer)
        self._caller = caller

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """What the connection proves."""
        names = [name.encode() for name in self._caller.certificate]
        return {"x509_subject_alternative_name": names} if names else {}
