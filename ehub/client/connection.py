"""Connecting to a server."""

from __future__ import annotations

import warnings

from ehub.client.remote_hub import RemoteHub
from ehub.client.transport import (
    ClientTls,
    Options,
    SyncTransport,
    Transport,
    require_address,
    require_retry,
    require_seconds,
    require_token,
)
from ehub.hub import Hub
from ehub.wire import ehub_pb2 as pb
from ehub.wire.hosts import is_this_machine

__all__ = ["connected", "options_for"]


def options_for(
    address: str,
    token: str | None,
    tls: ClientTls | bool | None,
    timeout_seconds: float | None,
    retry_seconds: float,
) -> Options:
    """How to speak with the server at `address`."""
    if not (tls is None or isinstance(tls, (bool, ClientTls))):
        raise TypeError(f"tls is {tls!r:.100}; expected a ClientTls, True or None")
    trust = ClientTls() if tls is True else tls or None
    place = require_address(address)
    is_local = is_this_machine(place) or is_this_machine(place.rpartition(":")[0])
    bearer = require_token(token)
    if bearer is not None and trust is None and not is_local:
        warnings.warn(
            f"the token goes to {place!r} without encryption, and whoever sees it on the way can "
            "use it: connect with tls=",
            stacklevel=3,
        )
    timeout, retry = require_seconds(timeout_seconds), require_retry(retry_seconds)
    return Options(place, bearer, trust, timeout, retry)


def connected(options: Options, transport: Transport | None = None) -> Hub:
    """A hub on a server that has answered.

    Raises:
        UnavailableError: There is no way to it, or something else answers; it says what to check.
        PermissionDeniedError: The token is wrong, or it wants one.
    """
    way = SyncTransport(options) if transport is None else transport
    try:
        told = way.call("Hello", pb.HelloRequest(), again=True)
    except BaseException:
        way.close()
        raise
    way.rows_max = told.limits.rows or None
    way.deadline_seconds = told.limits.deadline_seconds or None
    way.message_bytes = told.limits.message_bytes or way.message_bytes
    if told.limits.call_streams:
        way.open_lines()
    return RemoteHub(way)
