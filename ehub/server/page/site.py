"""From a request to its answer, without sockets: files for anybody, reports for who may see."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

import grpc

from ehub.access import NotAuthenticated
from ehub.errors import EhubError, InvalidArgumentError, UnavailableError
from ehub.server.http_port import Answer
from ehub.server.page.assets import Asset, assets
from ehub.server.page.local_calls import Caller
from ehub.server.page.reports import ROUTES, Reports, Route
from ehub.wire.failures import code_of

__all__ = ["Request", "Site", "failed"]

log = logging.getLogger("ehub.server.page")

# Nothing from elsewhere, nothing written into the page itself, nobody's frame.
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: HTTPStatus.BAD_REQUEST,
    grpc.StatusCode.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    grpc.StatusCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    grpc.StatusCode.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}


@dataclass(frozen=True, slots=True)
class Request:
    """A request to read something.

    Args:
        path: Without what follows a "?".
        query: What follows it.
        caller: Who asks.
        known: The tag of the file that the browser has already.
        takes_gzip: Whether it takes compressed files.
        foreign: Whether a page of another site asks.
    """

    path: str
    query: str
    caller: Caller
    known: str = ""
    takes_gzip: bool = False
    foreign: bool = False


class Site:
    """Answers requests. Any thread may ask."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports
        self._assets = assets()

    def answer(self, request: Request) -> Answer:
        """The answer, whatever goes wrong."""
        began = time.perf_counter()
        file = self._assets.get(request.path)
        answer = self._reported(request) if file is None else sent(file, request)
        taken_ms = round((time.perf_counter() - began) * 1e3, 3)
        # Neither keys nor tokens: of a path that is none of ours nothing is known.
        shown = request.path if file or request.path in ROUTES else ""
        log.debug("asked", extra={"path": shown, "status": int(answer.status), "ms": taken_ms})
        return answer

    def _reported(self, request: Request) -> Answer:
        route = ROUTES.get(request.path)
        if route is None:
            return failed(HTTPStatus.NOT_FOUND, "there is no such page")
        if request.foreign:
            return failed(HTTPStatus.FORBIDDEN, "this is for the server's own page")
        try:
            values = values_of(request.query, route)
            return as_json(HTTPStatus.OK, route.answer(self._reports, request.caller, values))
        except NotAuthenticated as error:
            return failed(HTTPStatus.UNAUTHORIZED, str(error), {"WWW-Authenticate": "Bearer"})
        except UnavailableError as error:
            return failed(HTTPStatus.SERVICE_UNAVAILABLE, str(error), {"Retry-After": "10"})
        except Exception as error:
            return failed(*described(error))


def described(error: Exception) -> tuple[HTTPStatus, str]:
    """The status of an exception, and what the caller is told; of a mistake of ours a number."""
    code = code_of(error)
    if code is None and not isinstance(error, EhubError):
        number = uuid.uuid4().hex[:12]
        log.error("internal error", exc_info=error, extra={"error": number})
        return HTTPStatus.INTERNAL_SERVER_ERROR, f"an internal error, {number} in the server's log"
    status = HTTPStatus.INTERNAL_SERVER_ERROR if code is None else STATUS.get(code)
    return status or HTTPStatus.INTERNAL_SERVER_ERROR, str(error)


def values_of(query: str, route: Route) -> dict[str, str]:
    """What a query says, each name once; a name that the route does not know is refused."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError:
        pairs = []
        if query:
            raise InvalidArgumentError("the query is no list of name=value in UTF-8") from None
    values = dict(pairs)
    if len(values) < len(pairs) or not route.needs <= set(values) <= route.needs | route.takes:
        raise InvalidArgumentError(
            f"expected in the query, each once: {', '.join(sorted(route.needs)) or 'nothing'}; "
            f"and if need be {', '.join(sorted(route.takes)) or 'nothing'}"
        )
    return values


def sent(file: Asset, request: Request) -> Answer:
    """A file, compressed if it may be; nothing if the browser has it."""
    headers = {**HEADERS, "ETag": file.tag, "Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
    if request.known == file.tag:
        return Answer(HTTPStatus.NOT_MODIFIED, b"", headers)
    headers["Content-Type"] = file.content_type
    if request.takes_gzip:
        return Answer(HTTPStatus.OK, file.compressed, headers | {"Content-Encoding": "gzip"})
    return Answer(HTTPStatus.OK, file.body, headers)


def as_json(status: HTTPStatus, value: Any, more: Mapping[str, str] | None = None) -> Answer:
    """A value as an answer that nobody keeps."""
    headers = {**HEADERS, "Content-Type": "application/json", "Cache-Control": "no-store"}
    body = json.dumps(value, allow_nan=False).encode()
    return Answer(status, body, {**headers, **(more or {})})


def failed(status: HTTPStatus, why: str, more: Mapping[str, str] | None = None) -> Answer:
    """What went wrong."""
    return as_json(status, {"error": why}, more)
