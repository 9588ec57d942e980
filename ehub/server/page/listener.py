"""The page's port: from a request of a browser to a question for the site."""

from __future__ import annotations

import ipaddress
from http import HTTPStatus
from urllib.parse import urlsplit

from ehub.server.config import ServerConfig
from ehub.server.http_port import Answer, Exchange, HttpPort
from ehub.server.page.local_calls import Caller
from ehub.server.page.site import Request, Site, failed

__all__ = ["Listener"]

CONNECTIONS = 32


class Listener(HttpPort):
    """Answers browsers.

    Args:
        site: Answers requests.
        config: The host, the port of the page, TLS.

    Raises:
        InvalidArgumentError: That is no host or port for browsers.
        UnavailableError: It cannot listen there.
    """

    def __init__(self, site: Site, config: ServerConfig) -> None:
        self.site = site
        self.config = config
        port = config.ui_port or 0
        super().__init__("a page", config.host, port, Visit, config.tls, CONNECTIONS)


class Visit(Exchange):
    """One request of a browser."""

    server: Listener

    def answered(self) -> Answer:
        """The site's answer."""
        if not self._is_for_us():
            why = "this server knows no such name of itself: open its address, or serve it with TLS"
            return failed(HTTPStatus.MISDIRECTED_REQUEST, why)
        path, _, query = self.path.partition("?")
        request = Request(
            path,
            query,
            Caller(self.peer, self.headers.get("Authorization"), self.certificate),
            self.headers.get("If-None-Match", ""),
            "gzip" in self.headers.get("Accept-Encoding", ""),
            self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"),
        )
        return self.server.site.answer(request)

    def refused(self, status: HTTPStatus, why: str) -> Answer:
        """A refusal as the site has them."""
        return failed(status, why)

    def _is_for_us(self) -> bool:
        """Whether a page of another site, whose name was made to lead here, is kept from asking.

        With TLS the certificate sees to that. Without, names other than ours are refused; an
        address is no name.
        """
        if self.server.config.tls is not None:
            return True
        host = host_of(self.headers.get("Host", ""))
        return host in ("localhost", self.server.config.host) or is_address(host)


def host_of(header: str) -> str:
    """The host of a header `Host`, without its port."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def is_address(host: str) -> bool:
    """Whether a host is a number, not a name."""
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True
