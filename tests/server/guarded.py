"""A guarded server in this process, and raw calls to it, for tests of access."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager

import grpc

import ehub
from ehub.access import Access, AuthSettings, Grant
from ehub.server.config import ServerConfig
from ehub.server.granting import access_service
from ehub.server.interceptor import AccessInterceptor
from ehub.server.old_clients import old_service
from ehub.server.serve import Server
from ehub.server.service import service
from ehub.wire.failures import exception_of
from ehub.wire.methods import ACCESS, SERVICE, methods_of

METHODS = {**methods_of(SERVICE), **methods_of(ACCESS)}


def bearer(token):
    """The metadata of a call with a token."""
    return [("authorization", f"Bearer {token}")]


class Guarded:
    """A server with keys: `tokens` by name, one for each set of grants that a test asked for."""

    def __init__(self, path, settings=None, **config):
        with ExitStack() as opening:  # a start that fails leaves nothing open
            self.hub = opening.enter_context(ehub.open(path))
            self.access = Access(self.hub, settings)
            self.tokens = {}
            self.token("root", "admin on hub")
            self.config = told = ServerConfig(port=0, **config)
            self.guard = AccessInterceptor(self.hub, self.access)
            opening.callback(self.guard.close)
            limits = told.limits
            self.service = service(self.hub, limits, None, told.backup_to)
            services = [
                self.service,
                access_service(self.guard),
                old_service(self.hub, limits),
            ]
            self.server = Server(self.hub, told, services, [self.guard])
            opening.callback(self.server.stop, 0)
            self.server.start()
            self.channel = opening.enter_context(grpc.insecure_channel(self.server.address))
            self._opened = opening.pop_all()

    def token(self, name, *grants):
        """The token of a principal, made with these grants."""
        if name not in self.tokens:
            given = [Grant.parse(grant) for grant in grants]
            self.tokens[name], _ = self.access.create_key(name, given)
        return self.tokens[name]

    def connect(self, name="root"):
        return ehub.connect(self.server.address, token=self.tokens[name])

    def call(self, method, request, token=None, metadata=()):
        """A call of one of ehub's services, whole; raises a grpc.RpcError."""
        told = METHODS[method]
        sent = iter([request]) if told.request_streams else request
        own = bearer(token) if token else []
        answer = told.call(self.channel)(sent, metadata=[*own, *metadata], timeout=60)
        return list(answer) if told.response_streams else answer

    def refusal(self, method, request, token=None, metadata=()):
        """Code and exception of a call that fails; (None, None) of one that does not."""
        try:
            self.call(method, request, token, metadata)
        except grpc.RpcError as error:
            raised = exception_of(error.code(), error.details(), error.trailing_metadata())
            return error.code(), raised
        return None, None

    def close(self):
        self._opened.close()


@contextmanager
def guarded(path, grants=(), *, anonymous=(), old_clients=(), **options):
    """A Guarded, with settings as text."""
    settings = None
    if anonymous or old_clients:
        settings = AuthSettings(
            anonymous=tuple(map(Grant.parse, anonymous)),
            old_clients=tuple(map(Grant.parse, old_clients)),
        )
    served = Guarded(path, settings, **options)
    try:
        for name, *given in grants:
            served.token(name, *given)
        yield served
    finally:
        served.close()
