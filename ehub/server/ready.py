"""What would keep a server from its start, found out before its hub is opened, or made."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from ehub.access.settings import read_settings
from ehub.backup.place import require_extra
from ehub.errors import InvalidArgumentError, UnavailableError
from ehub.server.config import ServerConfig
from ehub.server.page.assets import plotly_script
from ehub.server.serve import credentials

__all__ = ["require_ready"]

# Of what else a socket says against an address gRPC may know a way around.
NO_WAY = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)


def require_ready(directory: Path, config: ServerConfig, *, authenticated: bool) -> None:
    """Refuse what cannot be served; whether a hub that is there is guarded, it knows itself.

    Args:
        directory: Of the hub.
        config: Of the server.
        authenticated: Whether callers have to prove who they are, whatever the hub says.

    Raises:
        InvalidArgumentError: The config has what cannot be.
        UnavailableError: It cannot listen, or packages are missing for its page or its backups.
    """
    if "auth" in config.extra:
        read_settings(config.extra["auth"], config.directory)
    if config.tls is not None:
        credentials(config)
    if not (directory / "CURRENT").exists():
        config.require_guarded(authenticated=authenticated or "auth" in config.extra)
    if config.ui_port is not None:
        plotly_script()
    if config.backup_to:
        require_extra()
    with ExitStack() as held:
        told: dict[tuple[str, int], str] = {}
        for option, host, port in places(config):
            if port and (other := told.setdefault((host, port), option)) != option:
                raise InvalidArgumentError(
                    f"{option} and {other} are both {port}; expected a port for each"
                )
            hold(held, option, host, port)


def places(config: ServerConfig) -> Iterator[tuple[str, str, int]]:
    """Where it is to listen, each with the option that says the port."""
    yield "--port", config.host, config.port
    if config.ui_port is not None:
        yield "--ui-port", config.host, config.ui_port
    if config.metrics.port is not None:
        yield "--metrics-port", config.metrics.host, config.metrics.port


def hold(held: ExitStack, option: str, host: str, port: int) -> None:
    """Take an address as a server would, but for listening."""
    if host.startswith("unix:"):
        return
    error: OSError | None = None
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as failed:
        found, error = [], failed
    for family, kind, protocol, _, address in found:
        try:
            one = held.enter_context(socket.socket(family, kind, protocol))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(address)
        except OSError as failed:
            if failed.errno not in NO_WAY:
                return
            error = failed
        else:
            return
    if error is not None:
        raise UnavailableError(f"cannot listen at {host}:{port}: {advice(error, option)}")


def advice(error: OSError, option: str) -> str:
    """What is wrong with an address, and what to do."""
    if error.errno == errno.EADDRINUSE:
        return f"another process has the port: end it, or say another one ({option}; 0: a free one)"
    if error.errno == errno.EACCES:
        return f"the system does not let this user have the port: say another one ({option})"
    host = "--metrics-host" if option == "--metrics-port" else "--host"
    return f"that is no address of this machine ({error.strerror}): say another one ({host})"
