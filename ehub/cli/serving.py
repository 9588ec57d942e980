"""The command that serves a hub: `ehub serve`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ehub.cli.app import Failure, HubOrDefault, app

if TYPE_CHECKING:
    from ehub.server.config import ServerConfig

__all__ = ["serve"]

# How grpcio waits for its sockets, unless the environment says something else. Its usual way hands
# each message through threads of its own, which costs a server half as much again as all else.
POLLING = "-event_engine_client,-event_engine_listener"

BackupTo = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PLACE",
        help="Clients may have the hub backed up to this directory or URL, and below; may be given "
        "several times [none].",
    ),
]


@app.command()
def serve(
    hub: HubOrDefault,
    host: Annotated[str | None, typer.Option(help="The address to listen at [127.0.0.1].")] = None,
    port: Annotated[
        int | None,
        typer.Option(
            envvar="EMBEDDINGHUB_PORT", min=0, max=65_535, help="The port [7462]; 0: a free one."
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65_535, help="The port of /metrics for Prometheus; 0: a free one [none]."
        ),
    ] = None,
    metrics_host: Annotated[
        str | None, typer.Option(help="The address to listen at with it [127.0.0.1].")
    ] = None,
    ui_port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="The port of a page to look at it; 0: a free one."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="TOML", help="More settings; flags count before them.")
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="PEM", help="The server's certificate: TLS.")
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Its private key.")] = None,
    tls_client_ca: Annotated[
        Path | None,
        typer.Option(metavar="PEM", help="Clients must show a certificate that it signed."),
    ] = None,
    durability: Annotated[
        str | None, typer.Option(help="What acknowledged writes survive: full, normal, off [full].")
    ] = None,
    backup_to: BackupTo = None,
    log_level: Annotated[
        str | None, typer.Option(help="debug, info, warning or error [info].")
    ] = None,
    insecure: Annotated[
        bool, typer.Option("--insecure", help="Listen beyond this machine without TLS or tokens.")
    ] = False,
) -> None:
    """Serve a hub to other processes, over gRPC, until it is told to stop (SIGTERM, Ctrl-C).

    The hub is made if it is missing. Clients connect with ehub.connect("host:port"). The log goes
    to standard error, a JSON object per line.
    """
    os.environ.setdefault("GRPC_EXPERIMENTS", POLLING)
    try:
        from ehub.server.config import DURABILITIES, LOG_LEVELS, ServerConfig, read_config
        from ehub.server.run import run
    except ImportError as error:
        raise Failure(
            f"a server needs more packages: {error}", "pip install 'ehub[server]'"
        ) from error
    base = ServerConfig() if config is None else read_config(config)
    flags: dict[str, Any] = {
        "host": host,
        "port": port,
        "ui_port": ui_port,
        "durability": one_of(durability, "durability", DURABILITIES),
        "log_level": one_of(log_level, "log-level", LOG_LEVELS),
        "backup_to": places_of(backup_to),
        "insecure": insecure or None,
    }
    figures = replace(base.metrics, **given(host=metrics_host, port=metrics_port))
    settings = replace(base, **given(**flags), metrics=figures)
    run(hub, with_tls(settings, tls_cert, tls_key, tls_client_ca))


def given(**values: Any) -> dict[str, Any]:
    """Those values that were given."""
    return {name: value for name, value in values.items() if value is not None}


def places_of(places: list[str] | None) -> tuple[str, ...] | None:
    """Places for backups, relative paths from the current directory on; None: none were given."""
    from ehub.server.config import absolute

    return tuple(absolute(place, Path()) for place in places or ()) or None


def one_of(value: str | None, name: str, choices: tuple[str, ...]) -> str | None:
    """A value that is one of a few."""
    if value is not None and value not in choices:
        raise typer.BadParameter(
            f"--{name} is {value!r:.100}; expected one of {', '.join(choices)}"
        )
    return value


def with_tls(
    config: ServerConfig, certificate: Path | None, key: Path | None, client_ca: Path | None
) -> ServerConfig:
    """The settings with the certificates of the command line."""
    from ehub.server.config import Tls

    paths = given(certificate=certificate, key=key, client_ca=client_ca)
    if not paths:
        return config
    if config.tls is not None:
        return replace(config, tls=replace(config.tls, **paths))
    if certificate is None or key is None:
        raise typer.BadParameter("TLS needs both --tls-cert and --tls-key")
    return replace(config, tls=Tls(certificate, key, client_ca))
