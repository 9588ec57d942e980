"""Where a hub is, in the words that existing users know: `connect(LocalConfig(directory))`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ehub.errors import UnavailableError
from ehub.hub import Hub, open

if TYPE_CHECKING:
    from ehub.client.transport import ClientTls

__all__ = ["Config", "LocalConfig", "connect"]


@dataclass(frozen=True, slots=True)
class LocalConfig:
    """A hub in a directory."""

    directory: str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class Config:
    """A hub on a server."""

    host: str = "localhost"
    port: int = 7462


def connect(
    config: str | LocalConfig | Config,
    *,
    token: str | None = None,
    tls: ClientTls | bool | None = None,
    timeout_seconds: float | None = None,
    retry_seconds: float = 5.0,
) -> Hub:
    """The hub on the server at "host:port"; needs `ehub[server]`.

    Spaces, versions, snapshots and all else that comes from it have the methods of embedded use and
    raise the same exceptions. A search with a callable filter, and one that is made of several
    calls in other ways, shows one state if it is made of a snapshot.

    Args:
        config: The server's address; or where a hub is in the words of older releases, a directory
            (`LocalConfig`, the same as `ehub.open()`) or host and port (`Config`).
        token: Who calls; sent as a bearer token with every call.
        tls: An `ehub.client.transport.ClientTls` with certificates, or True for those that the
            system trusts; without it nothing is encrypted.
        timeout_seconds: Of each call that is answered at once; by default the server's limit.
        retry_seconds: How long reads, and writes of rows, are tried again while the server cannot
            be reached. A write is applied once, however often it is sent.

    Raises:
        UnavailableError: There is no way to the server; it says what to check.
        PermissionDeniedError: The server wants a token, or another one.
    """
    if isinstance(config, LocalConfig):
        return open(config.directory)
    if isinstance(config, Config):
        config = f"{config.host}:{config.port}"
    if not isinstance(config, str):
        raise TypeError(
            f"connect() takes 'host:port', a LocalConfig or a Config, not {config!r:.100}"
        )
    try:
        from ehub.client.connection import connected, options_for
    except ImportError as error:
        raise UnavailableError(
            f"a hub on a server needs the extra: pip install 'ehub[server]' ({error})"
        ) from error
    return connected(options_for(config, token, tls, timeout_seconds, retry_seconds))
