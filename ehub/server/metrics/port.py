"""The port where Prometheus asks for the figures: HTTP, `GET /metrics`, and nothing else.

Whoever asks must be allowed the RPC `Metrics`, and is asked for the same proof: the header
"Authorization: Bearer TOKEN", or a certificate. The port has the server's TLS, if it has any.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus

from prometheus_client import CONTENT_TYPE_LATEST

from ehub.access import NotAuthenticated
from ehub.access.principals import NOBODY
from ehub.errors import EhubError, PermissionDeniedError
from ehub.server.config import ServerConfig
from ehub.server.http_port import Answer, Exchange, HttpPort
from ehub.server.interceptor import AUTHORIZATION, AccessInterceptor, token_of
from ehub.server.metrics.metrics import Metrics
from ehub.server.rules import METRICS, RULES

__all__ = ["MetricsPort"]

log = logging.getLogger("ehub.server.metrics")

PATH = "/metrics"
CONNECTIONS = 8


class MetricsPort(HttpPort):
    """Answers `GET /metrics`, from its making until `close()`, in threads of its own.

    Args:
        metrics: The figures.
        guard: The server's.
        config: The server's; `config.metrics` has the address.

    Raises:
        InvalidArgumentError: That is no host or port for HTTP.
        UnavailableError: It cannot listen there.
    """

    def __init__(self, metrics: Metrics, guard: AccessInterceptor, config: ServerConfig) -> None:
        self.metrics = metrics
        self.guard = guard
        host, port = config.metrics.host, config.metrics.port or 0
        super().__init__("metrics", host, port, Scrape, config.tls, CONNECTIONS)
        self.start()
        log.info("metrics", extra={"metrics": f"{host}:{self.port}{PATH}"})

    def close(self) -> None:
        """Take no more requests, and end those in progress."""
        self.stop()

    # --- access ---

    def require_allowed(self, header: str | None, certificate: tuple[str, ...], peer: str) -> None:
        """Refuse whoever may not call the RPC, and note that: a PermissionDeniedError."""
        access = self.guard.access
        needs = RULES[METRICS].needs
        if not access.guarded or needs is None:
            return
        who, needed = NOBODY, list(needs(None))
        try:
            token = None if header is None else token_of([(AUTHORIZATION, header)])
            who = access.authenticate(token, certificate=certificate)
            rights = access.rights(who)
            for need in needed:
                decision = rights.decide(need.verb, need.resource)
                if not decision.allowed:
                    raise PermissionDeniedError(decision.why)
        except PermissionDeniedError as error:
            self.guard.notebook.denial(PATH, who, peer, needed, error)
            raise


class Scrape(Exchange):
    """One request for the figures."""

    server: MetricsPort

    def answered(self) -> Answer:
        """The figures, if they may be told."""
        if self.path.partition("?")[0] != PATH:
            return said(HTTPStatus.NOT_FOUND, f"the figures are at {PATH}")
        token = self.headers.get("Authorization")
        try:
            self.server.require_allowed(token, self.certificate, self.peer)
            return said(HTTPStatus.OK, self.server.metrics.text(), CONTENT_TYPE_LATEST)
        except NotAuthenticated as error:
            return said(HTTPStatus.UNAUTHORIZED, str(error), more={"WWW-Authenticate": "Bearer"})
        except PermissionDeniedError as error:
            return said(HTTPStatus.FORBIDDEN, str(error))
        except EhubError as error:  # the hub is being closed
            return said(HTTPStatus.SERVICE_UNAVAILABLE, str(error))

    def refused(self, status: HTTPStatus, why: str) -> Answer:
        """A refusal as text."""
        return said(status, why)


def said(
    status: HTTPStatus,
    text: str,
    kind: str = "text/plain; charset=utf-8",
    *,
    more: Mapping[str, str] | None = None,
) -> Answer:
    """A text as an answer."""
    return Answer(status, text.encode(), {"Content-Type": kind, **(more or {})})
