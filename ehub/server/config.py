"""What a server is told: where it listens, how it is guarded, its limits; or a TOML file has it."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from ehub.backup.allowed import as_prefix
from ehub.errors import InvalidArgumentError, NotFoundError
from ehub.types import Durability
from ehub.wire.hosts import is_this_machine

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = [
    "DEFAULT_PORT",
    "Limits",
    "MetricsConfig",
    "ServerConfig",
    "Tls",
    "absolute",
    "read_config",
]

DEFAULT_PORT = 7462
PORT_MAX = 65_535
GRACE_SECONDS_MAX = 86_400
DURABILITIES = ("full", "normal", "off")
LOG_LEVELS = ("debug", "info", "warning", "error")
Told = TypeVar("Told", "Limits", "MetricsConfig", "ServerConfig")

MIB = 1 << 20

# What gRPC can be told.
LIMITS_MAX = {
    "message_bytes": (1 << 31) - 1,
    "connection_streams": (1 << 31) - 1,
    "keepalive_seconds": 86_400,
    "deadline_seconds": 31_536_000,
    "idle_seconds": 86_400,
}

# Tables of a config file that other parts of the server read (`ServerConfig.extra`).
TABLES = ("auth",)


def require_port(port: int | None, name: str) -> None:
    """Refuse what is no port; None: there is none."""
    if port is not None and not 0 <= port <= PORT_MAX:
        raise InvalidArgumentError(f"{name} is {port}; expected 0 to {PORT_MAX:,}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a call may ask for; beyond it is an error that names the limit.

    Args:
        message_bytes: Of one message, in either direction.
        rows: Of one call that is answered in one message, or of one message of a stream.
        k: Neighbours of one query.
        batch_bytes: Of one atomic batch, which the server holds in memory until it is whole.
        batches_bytes: Of all such batches at once; more are refused (UNAVAILABLE), so that they
            come back later.
        calls: Calls in progress at once, those of streams among them; more are refused
            (UNAVAILABLE), so that they come back later. Of this and the next one caller, who shows
            one token or else comes from one address, has three quarters at most. A socket of this
            machine is one address: all who show no token there are one caller. A hub that is not
            guarded goes by no token. Streams of small calls, which clients keep open, are beside
            them: half as many as `streams` leaves room for, and of these, too, one caller has three
            quarters at most.
        streams: Long calls at once: scans, ingests, snapshots' differences. Less than `calls`, so
            that slow readers of streams leave room for others.
        idle_seconds: How long a call may wait for its caller: for its request, for the next message
            of a stream, for an answer to be read. Then it is cancelled.
        deadline_seconds: What clients give a call that is answered in one message, if their user
            says nothing else. A search or k-means that is not done by then ends early, as when the
            caller leaves; what else runs in the engine runs to its end.
        snapshots: That are held for clients at once.
        snapshot_idle_seconds: After so long without use a snapshot is let go.
        clients: Whose last writes are remembered, so that one that is sent again applies once.
        keepalive_seconds: A connection on which nothing comes is asked after so long whether it
            lives.
        connection_streams: Calls in progress on one connection; more wait in the client.
    """

    message_bytes: int = 64 * MIB
    rows: int = 1_000_000
    k: int = 1_000_000
    batch_bytes: int = 1024 * MIB
    batches_bytes: int = 4096 * MIB
    calls: int = 128
    streams: int = 32
    idle_seconds: float = 300.0
    deadline_seconds: float = 600.0
    snapshots: int = 1_000
    snapshot_idle_seconds: float = 3_600.0
    clients: int = 1_024
    keepalive_seconds: float = 60.0
    connection_streams: int = 48

    @property
    def call_streams(self) -> int:
        """Streams of small calls at once: half as many as the calls that are no streams."""
        return (self.calls - self.streams) // 2

    def __post_init__(self) -> None:
        for part in fields(self):
            value = getattr(self, part.name)
            most = LIMITS_MAX.get(part.name, sys.maxsize)
            if (
                isinstance(value, bool)
                or not isinstance(value, (int, float))
                or not 0 < value <= most
            ):
                raise InvalidArgumentError(
                    f"limit {part.name} is {value!r:.100}; expected a number above 0, {most:,} at "
                    "most"
                )
        if self.streams >= self.calls:
            raise InvalidArgumentError(
                f"limit streams is {self.streams}; expected less than calls, which is {self.calls}"
            )


@dataclass(frozen=True, slots=True)
class Tls:
    """How connections are encrypted: PEM files.

    Args:
        certificate: The server's, with the chain behind it.
        key: Its private key.
        client_ca: If given, clients must show a certificate that one of these signed (mutual TLS).
    """

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """Figures of the server for those who run it.

    Args:
        port: The port where Prometheus finds them, by HTTP under /metrics; 0 is any that is free.
            None: there is no such port.
        host: The address to listen at with it.
        versions: So many of the largest versions have figures of their own, the others one in
            common.
        recall_seconds: How often the last searches are repeated exactly, to see what the index
            misses; it takes a fiftieth of the time at most. 0: never.
        recall_queries: So many searches of a version are repeated.
    """

    port: int | None = None
    host: str = "127.0.0.1"
    versions: int = 200
    recall_seconds: float = 0.0
    recall_queries: int = 20

    def __post_init__(self) -> None:
        require_port(self.port, "port of metrics")
        finite = 0 <= self.recall_seconds < math.inf
        if not (self.versions >= 0 and finite and self.recall_queries > 0):
            raise InvalidArgumentError(
                f"versions is {self.versions}, recall_seconds {self.recall_seconds}, "
                f"recall_queries {self.recall_queries}; expected 0 or more, finite, of queries 1"
            )


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """All of it.

    Args:
        host: The address to listen at; or "unix:PATH", a socket of this machine, without a port.
        port: The port; 0 is any that is free.
        ui_port: The port of a page to look at the hub, on the same host; None: there is no page.
        tls: Encryption; None is none.
        insecure: Listen beyond this machine without TLS or without authentication.
        durability: As of `ehub.open()`.
        grace_seconds: How long calls in progress may go on when the server is to stop.
        backup_to: Where callers who may (role admin on the hub) have the hub backed up to: at these
            places and below. Absolute paths, and URLs such as "s3://bucket/prefix", whose
            credentials are in the environment. None: nowhere.
        log_level: "debug", "info", "warning" or "error".
        limits: See there.
        metrics: See there.
        extra: Tables of the file that belong to other parts of the server, by name.
        directory: Where the file is: what relative paths in these tables begin with.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    ui_port: int | None = None
    tls: Tls | None = None
    insecure: bool = False
    durability: Durability = "full"
    grace_seconds: float = 10.0
    backup_to: tuple[str, ...] = ()
    log_level: str = "info"
    limits: Limits = field(default_factory=Limits)
    metrics: MetricsConfig = field(default_factory=MetricsConfig)
    extra: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    directory: Path = Path()

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect."""
        return is_this_machine(self.host)

    def __post_init__(self) -> None:
        require_port(self.port, "port")
        require_port(self.ui_port, "ui_port")
        if not 0 <= self.grace_seconds <= GRACE_SECONDS_MAX:
            raise InvalidArgumentError(
                f"grace_seconds is {self.grace_seconds}; expected 0 to {GRACE_SECONDS_MAX:,}"
            )
        for prefix in self.backup_to:
            as_prefix(prefix)
        for name, choices in (("durability", DURABILITIES), ("log_level", LOG_LEVELS)):
            if getattr(self, name) not in choices:
                raise InvalidArgumentError(
                    f"{name} is {getattr(self, name)!r:.100}; expected one of {', '.join(choices)}"
                )

    def require_guarded(self, *, authenticated: bool) -> None:
        """Refuse to be reached by others without encryption and authentication."""
        hosts = [self.host, *([] if self.metrics.port is None else [self.metrics.host])]
        far = [host for host in hosts if not is_this_machine(host)]
        if not far or self.insecure or (self.tls is not None and authenticated):
            return
        missing = [
            *([] if self.tls is not None else ["TLS (--tls-cert, --tls-key)"]),
            *([] if authenticated else ["authentication (ehub auth create-key)"]),
        ]
        raise InvalidArgumentError(
            f"host is {far[0]!r:.100}, which others can reach, without {' and '.join(missing)}: "
            "anybody could read and write. Add that, listen at 127.0.0.1, or say --insecure"
        )


def read_config(path: Path, base: ServerConfig | None = None) -> ServerConfig:
    """A TOML file over `base`: the fields of ServerConfig, tables [limits], [metrics] and [tls].

    Tables of other parts of the server (`TABLES`) are kept in `extra`. A NotFoundError if there is
    no file; an InvalidArgumentError for what is no TOML, and for a name that is unknown: a table
    that nobody reads might be what was to guard the hub.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise NotFoundError(f"there is no config file {str(path)!r}") from error
    except OSError as error:
        raise InvalidArgumentError(
            f"the config file {str(path)!r} cannot be read: {error.strerror}; expected a file in "
            "TOML"
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidArgumentError(f"{path}: no TOML: it is no UTF-8: {error}") from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidArgumentError(f"{path}: no TOML: {error}") from error
    config = base if base is not None else ServerConfig()
    changes: dict[str, Any] = {}
    if "limits" in values:
        changes["limits"] = changed(config.limits, values.pop("limits"), f"{path}: [limits]")
    if "metrics" in values:
        table = values.pop("metrics")
        changes["metrics"] = changed(config.metrics, table, f"{path}: [metrics]")
    if "tls" in values:
        changes["tls"] = tls_of(values.pop("tls"), f"{path}: [tls]", path.parent)
    if "backup_to" in values:
        changes["backup_to"] = places_of(values.pop("backup_to"), f"{path}: backup_to", path.parent)
    extra = {name: value for name, value in values.items() if isinstance(value, dict)}
    plain = {name: value for name, value in values.items() if name not in extra}
    unknown = sorted(set(extra) - set(TABLES))
    if unknown:
        raise InvalidArgumentError(
            f"{path} has a table [{unknown[0]:.100}], which nothing reads; expected some of "
            f"{', '.join(f'[{name}]' for name in ('limits', 'metrics', 'tls', *TABLES))}"
        )
    return replace(changed(config, plain, str(path)), **changes, extra=extra, directory=path.parent)


def changed(target: Told, values: Any, where: str) -> Told:
    """A dataclass with other values; refuses names that it has not."""
    if not isinstance(values, dict):
        raise InvalidArgumentError(f"{where} is {values!r:.100}; expected a table")
    apart = {"limits", "metrics", "tls", "backup_to", "extra", "directory"}
    known = {part.name for part in fields(target)} - apart
    unknown = sorted(set(values) - known)
    if unknown:
        raise InvalidArgumentError(
            f"{where} has {unknown[0]!r:.100}, which nothing is called; expected some of "
            f"{', '.join(sorted(known))}"
        )
    for name, value in values.items():
        known_value = getattr(target, name)
        kind = int if known_value is None else type(known_value)
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise InvalidArgumentError(
                f"{where}: {name} is {value!r:.100}; expected {kind.__name__}"
                + ("" if known_value is None else f", as {known_value!r}")
            )
    return replace(target, **values)


def places_of(values: Any, where: str, beside: Path) -> tuple[str, ...]:
    """Places for backups; paths that are relative from the file's directory on."""
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InvalidArgumentError(
            f"{where} is {values!r:.100}; expected a list of directories and URLs, as "
            '["s3://bucket/prefix"]'
        )
    return tuple(absolute(value, beside) for value in values)


def absolute(place: str, beside: Path) -> str:
    """A place for backups, a relative path from a directory on."""
    return place if "://" in place or not place else str(beside.absolute() / place)


def tls_of(values: Any, where: str, beside: Path) -> Tls:
    """The table [tls]: paths, those that are relative from the file's directory on."""
    known = {part.name for part in fields(Tls)}
    if not isinstance(values, dict) or not {"certificate", "key"} <= set(values) <= known:
        raise InvalidArgumentError(
            f"{where} is {values!r:.100}; expected certificate, key and perhaps client_ca"
        )
    return Tls(**{name: beside / str(value) for name, value in values.items()})
