"""Commands about backups: backup, backups, restore-backup, prune-backups."""

from __future__ import annotations

from typing import Annotated

import typer

import ehub
from ehub.cli import output
from ehub.cli.app import Hub, Json, Yes, app, confirm, open_to_read
from ehub.cli.reaching import HubPlace, Server, asks_server, hub_at

Place = Annotated[
    str,
    typer.Argument(
        metavar="PLACE",
        help="A directory, or a URL such as s3://bucket/prefix; credentials and endpoint come from "
        "the environment, as AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL.",
    ),
]


def kept(option: str, what: str) -> typer.models.OptionInfo:
    """An option that says how many backups stay."""
    info: typer.models.OptionInfo = typer.Option(option, metavar="N", min=0, help=what)
    return info


@app.command()
@asks_server
def backup(
    hub: HubPlace,
    server: Server,
    place: Place,
    index: Annotated[
        bool, typer.Option("--index/--no-index", help="Copy graphs, too; else they are rebuilt.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Copy a hub to PLACE, beside whoever uses it; what earlier backups have is not moved again.

    A server copies its hub itself, so PLACE is where it may (ehub serve --backup-to): an absolute
    path on its machine, or a URL.
    """
    with hub_at(hub, server, open_to_read) as store:
        made = store.backup(place, index=index, progress=True)
    if as_json:
        output.print_json({"place": place, **made.to_dict()})
        return
    moved, size = output.bytes_text(made.bytes_moved), output.bytes_text(made.bytes)
    output.say(f"backup {made.number}: {made.files} files, {size}, {moved} of them moved")


@app.command()
def backups(place: Place, as_json: Json = False) -> None:
    """List the backups in PLACE, oldest first."""
    found = ehub.backups(place)
    if as_json:
        output.print_json([one.to_dict() for one in found])
        return
    output.print_table(
        ["backup ", "time", "batch ", "files ", "bytes ", "moved "],
        ([one.number, one.time, one.seq, one.files, one.bytes, one.bytes_moved] for one in found),
    )


@app.command()
def restore_backup(
    place: Place,
    hub: Hub,
    number: Annotated[
        int | None, typer.Option("--backup", metavar="N", help="Which one; default: the last.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a hub of a backup, and verify all of it; HUB must be empty or missing."""
    made = ehub.restore(place, hub, number=number, progress=True)
    if as_json:
        output.print_json({"place": place, "hub": str(hub), **made.to_dict()})
    else:
        output.say(f"restored backup {made.number} of {made.time} to {hub}: verified, no damage")


@app.command()
def prune_backups(
    place: Place,
    keep_last: Annotated[int | None, kept("--keep-last", "Keep the newest N.")] = None,
    keep_daily: Annotated[int | None, kept("--keep-daily", "Keep one a day, of N days.")] = None,
    keep_weekly: Annotated[int | None, kept("--keep-weekly", "The same of weeks.")] = None,
    keep_monthly: Annotated[int | None, kept("--keep-monthly", "The same of months.")] = None,
    made_before: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Remove what was made before, after an erasure."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and remove nothing.")
    ] = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Remove backups that no rule keeps, and what only they need. The newest always stays."""

    def prune(dry_run: bool) -> ehub.Pruned:
        return ehub.prune_backups(
            place,
            keep_last=keep_last,
            keep_daily=keep_daily,
            keep_weekly=keep_weekly,
            keep_monthly=keep_monthly,
            made_before=made_before,
            dry_run=dry_run,
            progress=True,
        )

    if not dry_run and not yes:
        confirm(f"Remove {len(prune(True).removed)} backups from {place}?")
    pruned = prune(dry_run)
    if as_json:
        output.print_json({"place": place, "dry_run": dry_run, **pruned.to_dict()})
        return
    verb = "would remove" if dry_run else "removed"
    for one in pruned.removed:
        output.say(f"{verb} backup {one.number} of {one.time}")
    size = output.bytes_text(pruned.bytes_freed)
    output.say(f"{verb} {pruned.objects} objects, {size}; {len(pruned.kept)} backups stay")
