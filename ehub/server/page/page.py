"""The page of a server: made, started and stopped with it."""

from __future__ import annotations

import logging

from ehub.server.config import ServerConfig
from ehub.server.interceptor import AccessInterceptor
from ehub.server.page.listener import Listener
from ehub.server.page.local_calls import LocalHubs
from ehub.server.page.reports import Reports
from ehub.server.page.site import Site
from ehub.server.serve import Service

__all__ = ["Page"]

log = logging.getLogger("ehub.server.page")


class Page:
    """A page on a port of its own.

    Args:
        guard: What the server's calls go through, and the page's questions too.
        service: What it asks: `ehub.v1.Embeddinghub`.
        config: Where to listen: its `host` and `ui_port`.

    Raises:
        InvalidArgumentError: It would listen beyond this machine without TLS or authentication.
        UnavailableError: It cannot listen there, or plotly is not installed.
    """

    def __init__(self, guard: AccessInterceptor, service: Service, config: ServerConfig) -> None:
        config.require_guarded(authenticated=guard.authenticates)
        self._config = config
        self._listener = Listener(Site(Reports(LocalHubs(guard, service))), config)

    @property
    def port(self) -> int:
        """The port it listens at."""
        return self._listener.port

    @property
    def url(self) -> str:
        """What a browser on this machine opens."""
        host = f"[{self._config.host}]" if ":" in self._config.host else self._config.host
        return f"http{'s' if self._config.tls else ''}://{host}:{self.port}/"

    def start(self) -> None:
        """Serve it, in threads of its own, until `stop()`."""
        self._listener.start()
        log.info("serving a page", extra={"url": self.url})

    def stop(self) -> None:
        """End its connections; before the hub is closed. Stopping twice is fine."""
        self._listener.stop()
