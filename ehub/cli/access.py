"""Commands about access to a hub that is served: ehub auth ..., ehub audit ...

They work on the directory of a hub that nobody serves; while a server has it, `ehub auth` asks the
server (HUB is then host:port).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ehub import names
from ehub.access import Access, Administration, AuditLog, Grant, check, entries
from ehub.cli import output
from ehub.cli.app import (
    Failure,
    HubOrDefault,
    Json,
    app,
    directory,
    open_to_read,
    open_to_write,
)
from ehub.errors import NotFoundError

if TYPE_CHECKING:
    from ehub.client.granting import RemoteAdministration
    from ehub.client.transport import Transport

auth = typer.Typer(help="Keys and grants of a hub that is served.")
audit = typer.Typer(help="The audit log of a hub that is served.")


@auth.callback(invoke_without_command=True)
@audit.callback(invoke_without_command=True)
def explain(context: typer.Context) -> None:
    """Show the help if no command was given."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(2)


app.add_typer(auth, name="auth")
app.add_typer(audit, name="audit")

UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}

PrincipalName = Annotated[
    str,
    typer.Argument(
        metavar="PRINCIPAL", help="key:NAME, user:NAME, group:NAME (of a JWT) or cert:NAME."
    ),
]
Role = Annotated[str, typer.Argument(metavar="ROLE", help="reader, writer, editor or admin.")]
On = Annotated[
    str,
    typer.Argument(
        metavar="RESOURCE", help="hub, space:GLOB, or space:NAME/partition:GLOB for rows alone."
    ),
]


def hub_or_server(text: str) -> str:
    """A directory, or the address of a server."""
    return text if is_address(text) else str(directory(text))


def is_address(text: str) -> bool:
    """Whether a hub is named by its server, and there is no directory of that name."""
    return bool(re.fullmatch(r"unix:.+|[^/\\]+:\d{1,5}", text)) and not Path(text).exists()


Place = Annotated[
    str,
    typer.Argument(
        metavar="HUB",
        parser=hub_or_server,
        envvar="EMBEDDINGHUB_DATA",
        help="The hub's directory; or, while it is served, host:port of the server.",
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="EMBEDDINGHUB_TOKEN",
        show_envvar=True,
        help="For a server: the API key of an admin; best in the variable, which nobody sees.",
    ),
]
TlsCa = Annotated[
    Path | None, typer.Option(metavar="PEM", help="For a server with TLS: who signed it.")
]


@contextmanager
def administration(
    place: str, token: str | None, tls_ca: Path | None
) -> Iterator[Administration | RemoteAdministration]:
    """Changes of a hub's keys and grants: through its server, or as the user of this process."""
    if is_address(place):
        with connected(place, token, tls_ca) as remote:
            yield remote
        return
    try:
        opened = open_to_write(Path(place))
    except NotFoundError as error:
        raise Failure(str(error), "ehub serve makes one: start it on this machine first") from error
    with opened as store:
        access, log = Access(store), AuditLog(store.path)
        by = f"local:{names.user()}"

        def tell(what: dict[str, Any]) -> None:
            log.append({"action": "grant", "principal": by, "how": "local", **what}, durable=True)

        try:
            yield Administration(access, by, tell)
        finally:
            log.close()
            access.save(log.head)


@contextmanager
def connected(
    address: str, token: str | None, tls_ca: Path | None
) -> Iterator[RemoteAdministration]:
    """The keys and grants of a hub that is served."""
    with way_to(address, token, tls_ca) as transport:
        from ehub.client.granting import RemoteAdministration

        yield RemoteAdministration(transport)


@contextmanager
def way_to(address: str, token: str | None, tls_ca: Path | None) -> Iterator[Transport]:
    """Calls to a server."""
    try:
        from ehub.client.connection import options_for
        from ehub.client.transport import ClientTls, SyncTransport
    except ImportError as error:
        raise Failure(
            f"a server is reached by more packages: {error}", "pip install 'ehub[server]'"
        ) from error
    trust = None if tls_ca is None else ClientTls(ca=tls_ca)
    transport = SyncTransport(options_for(address, token, trust, 60.0, 5.0))
    try:
        yield transport
    finally:
        transport.close()


def as_time(text: str) -> timedelta:
    """A time as typed: 90d."""
    found = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if not found:
        raise typer.BadParameter(
            f"{text!r:.100} is no time; expected a number and m, h, d or w: 90d"
        )
    return timedelta(**{UNITS[found[2]]: int(found[1])})


@auth.command("create-key")
def create_key(
    hub: Place,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key: makes key:NAME.")],
    role: Annotated[str | None, typer.Option(help="Grant this role, too.")] = None,
    on: Annotated[str, typer.Option(help="On this resource.")] = "hub",
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="It ends after so long: 12h, 90d, 4w.")
    ] = None,
    token: Token = None,
    tls_ca: TlsCa = None,
    as_json: Json = False,
) -> None:
    """Make an API key and print it, which is the only time that it can be seen.

    The first key guards the hub: from then on a server lets nobody in without one.
    """
    grants = [] if role is None else [Grant(role, on)]
    with administration(hub, token, tls_ca) as admin:
        made, key = admin.create_key(
            name, grants, expires_in=None if expires is None else as_time(expires)
        )
    if as_json:
        output.print_json({"key": made, "id": key.id, "name": name, "expires": key.expires})
        return
    output.say(made)
    ends = f", expires {key.expires}" if key.expires else ""
    output.note(f"key {key.id} of {key.principal}{ends}. It is not shown again; keep it now")


@auth.command()
def revoke(
    hub: Place,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id, or a name.")],
    token: Token = None,
    tls_ca: TlsCa = None,
) -> None:
    """End an API key, or all keys of a name."""
    with administration(hub, token, tls_ca) as admin:
        for ended in admin.revoke(key):
            output.say(f"revoked {ended.id} of {ended.principal}")


@auth.command()
def grant(
    hub: Place,
    principal: PrincipalName,
    role: Role,
    on: On,
    token: Token = None,
    tls_ca: TlsCa = None,
) -> None:
    """Give a principal a role on a resource."""
    with administration(hub, token, tls_ca) as admin:
        admin.grant(principal, Grant(role, on))
    output.say(f"{principal} is {role} on {on}")


@auth.command()
def ungrant(
    hub: Place,
    principal: PrincipalName,
    role: Role,
    on: On,
    token: Token = None,
    tls_ca: TlsCa = None,
) -> None:
    """Take a grant back."""
    with administration(hub, token, tls_ca) as admin:
        admin.ungrant(principal, Grant(role, on))
    output.say(f"{principal} is no longer {role} on {on}")


@auth.command("list")
def list_access(
    hub: Place, token: Token = None, tls_ca: TlsCa = None, as_json: Json = False
) -> None:
    """List keys and grants; of a directory while it is served, too."""
    if is_address(hub):
        with connected(hub, token, tls_ca) as remote:
            keys, grants, used = remote.listed()
    else:
        with open_to_read(Path(hub)) as store:
            access = Access(store)
            keys, grants, used = access.api_keys(), access.grants(), access.last_used()
    listed = [
        {
            "id": key.id,
            "principal": key.principal,
            "state": key.state(),
            "created": key.created,
            "created_by": key.created_by,
            "expires": key.expires,
            "last_used": used.get(key.id, ""),
        }
        for key in keys
    ]
    given = [
        {"principal": name, "role": one.role, "on": one.on, "created": one.created}
        for name, every in grants.items()
        for one in every
    ]
    if as_json:
        output.print_json({"hub": str(hub), "keys": listed, "grants": given})
        return
    columns = ("id", "principal", "state", "created", "expires", "last_used")
    rows = [["key", *(str(one[name]) for name in columns)] for one in listed]
    output.print_table(["", *columns], rows)
    output.print_table(
        ["", "principal", "role", "on"],
        (["grant", one["principal"], one["role"], one["on"]] for one in given),
    )


# --- the audit log ---


def as_head(text: str) -> tuple[int, str]:
    """A head as `ehub audit verify` prints it."""
    number, _, sha256 = text.partition(":")
    if not number.isdecimal() or not re.fullmatch("[0-9a-f]{64}", sha256):
        raise typer.BadParameter(f"{text!r:.100} is no head; expected NUMBER:SHA256")
    return int(number), sha256


@audit.command("verify")
def verify_audit(
    hub: HubOrDefault,
    head: Annotated[
        list[str] | None,
        typer.Option(metavar="N:SHA256", help="A head that was printed before must be there."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Prove that no line of the audit log was changed, removed or moved.

    Prints the head of the log: keep it elsewhere, and give it with --head the next time, so that
    even a log that was written anew from some line on is found. Exits with 1 if anything is wrong.
    """
    known = [as_head(text) for text in head or ()]
    with open_to_read(hub) as store:
        noted = Access(store).audit_head()
    report = check(hub, *known, *([] if noted is None else [noted]))
    if as_json:
        number, sha256 = report.head
        about: dict[str, Any] = {"lines": report.lines, "head": f"{number}:{sha256}"}
        findings = list(report.findings)
        output.print_json({"hub": str(hub), **about, "torn": report.torn, "findings": findings})
    else:
        for finding in report.findings:
            output.say(finding)
        if not report.findings:
            output.say(f"ok: {report.lines:,} lines, head {report.head[0]}:{report.head[1]}")
        if report.torn:
            output.note("the last line is not whole yet, or was cut short by a crash")
    if report.findings:
        raise typer.Exit(1)


@audit.command()
def show(
    hub: HubOrDefault,
    action: Annotated[
        str | None, typer.Option(help="Only these: denial, mutation or grant.")
    ] = None,
    principal: Annotated[str | None, typer.Option(help="Only of this principal.")] = None,
    last: Annotated[int, typer.Option("-n", min=1, help="At most so many, the last ones.")] = 100,
    as_json: Json = False,
) -> None:
    """Print lines of the audit log, oldest first."""
    if action not in (None, "denial", "mutation", "grant"):
        raise typer.BadParameter(
            f"{action!r:.100} is no action; expected denial, mutation or grant"
        )
    if not hub.is_dir():
        raise Failure(f"no hub in {hub}")
    every = (
        entry
        for entry in entries(hub)
        if (action is None or entry.get("action") == action)
        and (principal is None or entry.get("principal") == principal)
    )
    found = deque(every, maxlen=last)
    if as_json:
        output.print_json(list(found))
        return
    output.print_table(["time", "action", "principal", "method", "what"], map(as_row, found))


def as_row(entry: dict[str, Any]) -> list[str]:
    """A line of the log for people."""
    first = [str(entry.get(name, "")) for name in ("time", "action", "principal", "method")]
    known = {"n", "prev", "time", "action", "principal", "method", "how", "peer"}
    rest = " ".join(
        f"{name}={as_text(value)}" for name, value in entry.items() if name not in known
    )
    return [*first, rest]


def as_text(value: Any) -> str:
    """A value of a line."""
    return ",".join(map(as_text, value)) if isinstance(value, list) else str(value)
