"""A page over a hub for tests, and requests to it."""

from __future__ import annotations

import http.client
import json
import ssl
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from guarded import guarded

import ehub
from ehub.access import Access
from ehub.server.config import ServerConfig
from ehub.server.interceptor import AccessInterceptor
from ehub.server.page.page import Page
from ehub.server.service import service


@dataclass
class Got:
    """An answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Paged:
    """A page, its hub, and if it is guarded all that a Guarded has."""

    def __init__(self, page, hub, served=None):
        self.page, self.hub, self.served = page, hub, served

    def get(self, path, name=None, *, method="GET", token=None, trust=None, headers=(), **values):
        """What is answered to a principal of the server's, by name, or to a token."""
        host, port = "127.0.0.1", self.page.port
        connection = (
            http.client.HTTPConnection(host, port, timeout=30)
            if trust is None
            else http.client.HTTPSConnection("localhost", port, timeout=30, context=trust)
        )
        told = dict(headers)
        token = self.served.tokens[name] if name else token
        if token is not None:
            told["Authorization"] = f"Bearer {token}"
        query = f"?{urlencode(values)}" if values else ""
        try:
            connection.request(method, path + query, headers=told)
            answer = connection.getresponse()
            return Got(answer.status, dict(answer.headers), answer.read())
        finally:
            connection.close()


@contextmanager
def paged(path, grants=(), **options):
    """A page of a guarded server, with a principal for each of `grants`, and "root"."""
    with guarded(path, grants, ui_port=0, **options) as served:
        page = Page(served.guard, served.service, served.config)
        page.start()
        try:
            yield Paged(page, served.hub, served)
        finally:
            page.stop()


@contextmanager
def open_page(path, settings=None, **config):
    """A page of a hub that is not guarded, or by its notes and settings alone."""
    told = ServerConfig(ui_port=0, **config)
    with ehub.open(path, durability="off") as hub:
        guard = AccessInterceptor(hub, Access(hub, settings))
        page = Page(guard, service(hub, told.limits), told)
        page.start()
        try:
            yield Paged(page, hub)
        finally:
            page.stop()
            guard.close()


@contextmanager
def page_of(served):
    """The page of a Metered."""
    told = replace(served.config, ui_port=0)
    page = Page(served.guard, service(served.hub, told.limits, served.metrics), told)
    page.start()
    try:
        yield Paged(page, served.hub)
    finally:
        page.stop()


def trusting(authority, certificate=None):
    """What a client trusts, and shows."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH)
    authority.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return context
