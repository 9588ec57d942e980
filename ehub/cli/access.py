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

import ehub
from ehub import names
from ehub.access import Access, Administration, AuditLog, Grant, check, entries, require_key
from ehub.cli import output
from ehub.cli.app import (
    Failure,
    HubOrDefault,
    Json,
    app,
    open_to_read,
    open_to_write,
)
from ehub.cli.reaching import Place, Server, asks_server, is_address, way_to
from ehub.errors import NotFoundError

if TYPE_CHECKING:
    from ehub.client.granting import RemoteAdministration

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


@contextmanager
def administration(
    place: str, server: Server, *, makes: bool = False
) -> Iterator[Administration | RemoteAdministration]:
    """Changes of a hub's keys and grants: through its server, or as the user of this process.

    With `makes` a directory that is missing or empty becomes a hub.
    """
    if is_address(place):
        with connected(place, server) as remote:
            yield remote
        return
    with opened(Path(place), makes) as store:
        access, log = Access(store), AuditLog(store.path)
        by = f"local:{names.user()}"

        def tell(what: dict[str, Any]) -> None:
            log.append({"action": "grant", "principal": by, "how": "local", **what}, durable=True)

        try:
            yield Administration(access, by, tell)
        finally:
            log.close()
            access.save(log.head)


def opened(path: Path, makes: bool) -> ehub.Hub:
    """The hub in a directory, for changes."""
    if makes and (not path.exists() or (path.is_dir() and not any(path.iterdir()))):
        output.note(f"there is no hub in {path} yet: made one")
        return ehub.open(path)
    try:
        return open_to_write(path)
    except NotFoundError as error:
        raise Failure(str(error), "ehub auth create-key and ehub serve make one") from error


@contextmanager
def connected(address: str, server: Server) -> Iterator[RemoteAdministration]:
    """The keys and grants of a hub that is served."""
    with way_to(address, server) as transport:
        from ehub.client.granting import RemoteAdministration

        yield RemoteAdministration(transport)


def as_time(text: str) -> timedelta:
    """A time as typed: 90d."""
    found = re.fullmatch(r"(\d{1,6})([mhdw])", text)
    if not found:
        raise typer.BadParameter(
            f"{text!r:.100} is no time; expected a number and m, h, d or w: 90d"
        )
    return timedelta(**{UNITS[found[2]]: int(found[1])})


@auth.command("create-key")
@asks_server
def create_key(
    hub: Place,
    server: Server,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key: makes key:NAME.")],
    role: Annotated[str | None, typer.Option(help="Grant this role, too.")] = None,
    on: Annotated[str, typer.Option(help="On this resource.")] = "hub",
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="It ends after so long: 12h, 90d, 4w.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make an API key and print it, which is the only time that it can be seen.

    The first key guards the hub: from then on a server lets nobody in without one. A directory that
    is missing or empty becomes a hub, so that one can be guarded before it is ever served.
    """
    grants = [] if role is None else [Grant(role, on)]
    ends_in = None if expires is None else as_time(expires)
    require_key(name, ends_in)  # before a hub is made for it
    with administration(hub, server, makes=True) as admin:
        made, key = admin.create_key(name, grants, expires_in=ends_in)
    if as_json:
        output.print_json({"key": made, "id": key.id, "name": name, "expires": key.expires})
        return
    output.say(made)
    ends = f", expires {key.expires}" if key.expires else ""
    output.note(f"key {key.id} of {key.principal}{ends}. It is not shown again; keep it now")


@auth.command()
@asks_server
def revoke(
    hub: Place,
    server: Server,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its id, or a name.")],
) -> None:
    """End an API key, or all keys of a name."""
    with administration(hub, server) as admin:
        for ended in admin.revoke(key):
            output.say(f"revoked {ended.id} of {ended.principal}")


@auth.command()
@asks_server
def grant(
    hub: Place,
    server: Server,
    principal: PrincipalName,
    role: Role,
    on: On,
) -> None:
    """Give a principal a role on a resource."""
    with administration(hub, server) as admin:
        admin.grant(principal, Grant(role, on))
    output.say(f"{principal} is {role} on {on}")


@auth.command()
@asks_server
def ungrant(
    hub: Place,
    server: Server,
    principal: PrincipalName,
    role: Role,
    on: On,
) -> None:
    """Take a grant back."""
    with administration(hub, server) as admin:
        admin.ungrant(principal, Grant(role, on))
    output.say(f"{principal} is no longer {role} on {on}")


@auth.command("list")
@asks_server
def list_access(hub: Place, server: Server, as_json: Json = False) -> None:
    """List keys and grants; of a directory while it is served, too."""
    if is_address(hub):
        with connected(hub, server) as remote:
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
