"""How a command reaches a server: its address, the token, and whom TLS trusts; once for all."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from ehub.cli.app import Failure, directory

if TYPE_CHECKING:
    import ehub
    from ehub.client.transport import ClientTls, Options, Transport

__all__ = ["HubPlace", "Place", "Server", "asks_server", "hub_at", "is_address", "way_to"]


# Of a call about access or figures, unless more is said; and how long a server is waited for.
CALL_SECONDS, RETRY_SECONDS = 60.0, 5.0


def hub_or_server(text: str) -> str:
    """A directory, or the address of a server."""
    return text if is_address(text) else str(directory(text))


def is_address(text: str) -> bool:
    """Whether a hub is named by its server, and there is no directory of that name."""
    return bool(re.fullmatch(r"unix:.+|[^/\\]+:\d{1,5}", text)) and not Path(text).exists()


WHERE = "The hub's directory; or, while it is served, host:port of the server."

HubPlace = Annotated[str, typer.Argument(metavar="HUB", parser=hub_or_server, help=WHERE)]
Place = Annotated[
    str,
    typer.Argument(metavar="HUB", parser=hub_or_server, envvar="EMBEDDINGHUB_DATA", help=WHERE),
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="EMBEDDINGHUB_TOKEN",
        show_envvar=True,
        help="For a server: the API key of an admin; best in the variable, which nobody sees.",
    ),
]
Tls = Annotated[
    bool,
    typer.Option("--tls", help="For a server with TLS whose certificate the system trusts."),
]
TlsCa = Annotated[
    Path | None, typer.Option(metavar="PEM", help="For a server with TLS: who signed it.")
]
TlsCert = Annotated[
    Path | None,
    typer.Option(metavar="PEM", help="For mutual TLS: the client's certificate; with --tls-key."),
]
TlsKey = Annotated[Path | None, typer.Option(metavar="PEM", help="Its private key.")]
Timeout = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        min=0.001,
        help="For a server: how long it may take to answer; default: for what changes or copies "
        "rows its own limit, else a minute.",
    ),
]
LONGER = "give it more by --timeout SECONDS"


@dataclass(frozen=True, slots=True)
class Server:
    """What is said of a server beside its address; each field is an option of the command line."""

    token: Token = None
    tls: Tls = False
    tls_ca: TlsCa = None
    tls_cert: TlsCert = None
    tls_key: TlsKey = None
    timeout: Timeout = None

    def trust(self) -> ClientTls | None:
        """Whom TLS trusts; None: no TLS was asked for."""
        from ehub.client.transport import ClientTls

        if not self.tls and (self.tls_ca, self.tls_cert, self.tls_key) == (None, None, None):
            return None
        return ClientTls(ca=self.tls_ca, certificate=self.tls_cert, key=self.tls_key)


def asks_server(command: Callable[..., None]) -> Callable[..., None]:
    """A command with the options of `Server` in place of its parameter `server`."""
    names = [part.name for part in fields(Server)]
    hints, own = get_type_hints(Server, include_extras=True), inspect.signature(command)
    kinds = get_type_hints(command, inspect.getmodule(command).__dict__, include_extras=True)

    @functools.wraps(command)
    def run(**given: Any) -> None:
        said = {name: given.pop(name) for name in names}
        command(**given, server=Server(**said))

    parts = [
        part.replace(annotation=kinds[part.name], kind=inspect.Parameter.KEYWORD_ONLY)
        for part in own.parameters.values()
        if part.name != "server"
    ] + [
        inspect.Parameter(
            part.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=part.default,
            annotation=hints[part.name],
        )
        for part in fields(Server)
    ]
    run.__annotations__ = {part.name: part.annotation for part in parts}
    run.__dict__.update(__signature__=own.replace(parameters=parts))
    del run.__dict__["__wrapped__"]  # whose parameters are others
    return run


def options_of(address: str, server: Server, timeout_seconds: float | None) -> Options:
    """How to speak with a server, and how long it may take if nobody has said."""
    try:
        from ehub.client.connection import options_for
    except ImportError as error:
        raise Failure(
            f"a server is reached by more packages: {error}", "pip install 'ehub[server]'"
        ) from error
    seconds = timeout_seconds if server.timeout is None else server.timeout
    options = options_for(address, server.token, server.trust(), seconds, RETRY_SECONDS)
    return replace(options, longer=LONGER)


@contextmanager
def hub_at(place: str, server: Server, opened: Callable[[Path], ehub.Hub]) -> Iterator[ehub.Hub]:
    """The hub of a server, whose limits say how long a call may take; or that of a directory.

    Args:
        place: Of the hub.
        server: What was said of one.
        opened: Opens a directory.
    """
    if not is_address(place):
        with opened(Path(place)) as store:
            yield store
        return
    options = options_of(place, server, None)
    from ehub.client.connection import connected

    with connected(options) as hub:
        yield hub


@contextmanager
def way_to(address: str, server: Server) -> Iterator[Transport]:
    """Calls to a server."""
    options = options_of(address, server, CALL_SECONDS)
    from ehub.client.transport import SyncTransport

    transport = SyncTransport(options)
    try:
        yield transport
    finally:
        transport.close()
