"""Commands that look after a hub: verify, repair, compact, delete-space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import ehub
from ehub.cli import output
from ehub.cli.app import (
    EXIT_FAILED,
    Failure,
    Hub,
    HubOrDefault,
    Json,
    SpaceName,
    Yes,
    app,
    confirm,
    find_space,
    open_to_read,
    open_to_write,
)
from ehub.hub import disk_bytes


@app.command()
def verify(hub: HubOrDefault, as_json: Json = False) -> None:
    """Read every byte of a hub and check it against its checksum.

    Prints what is damaged, a line for each finding, and exits with 1 if there is any. Of a hub that
    is too damaged to be opened, that is what keeps it from being opened.
    """
    try:
        with open_to_read(hub) as store:
            report = store.verify(progress=True)
    except ehub.CorruptionError as error:  # so damaged that it does not open
        report = ehub.VerifyReport(0, 0, 0, (finding_of(error, hub),))
    if as_json:
        findings = [{"path": str(found.path), "what": found.what} for found in report.findings]
        output.print_json(
            {
                "hub": str(hub),
                "files": report.files,
                "bytes": report.bytes,
                "rows": report.rows,
                "findings": findings,
            }
        )
    else:
        for found in report.findings:
            output.say(f"{found.path}: {found.what}")
        if not report.findings:
            size = output.bytes_text(report.bytes)
            output.say(f"ok: {report.files} files, {size}, {report.rows:,} rows, no damage")
    if report.findings:
        output.note(f"{len(report.findings)} findings; ehub repair {hub} keeps what is sound")
        raise typer.Exit(EXIT_FAILED)


def finding_of(error: ehub.CorruptionError, hub: Path) -> ehub.Finding:
    """What an error says of a file."""
    path, damaged, where = str(error).partition(": damaged ")
    return ehub.Finding(path, "damaged " + where) if damaged else ehub.Finding(str(hub), path)


@app.command()
def repair(hub: Hub, yes: Yes = False, as_json: Json = False) -> None:
    """Rebuild a damaged hub from all that is provably undamaged.

    The hub must be closed. Damaged files are moved to HUB/lost+found, not deleted.
    """
    if not hub.is_dir():
        raise Failure(f"no hub in {hub}")
    if not yes:
        confirm(f"Repair {hub}? Rows that are damaged will be gone from it; copy it first.")
    report = ehub.repair(hub, progress=True)
    if as_json:
        dropped = [{"path": str(found.path), "what": found.what} for found in report.dropped]
        output.print_json(
            {
                "hub": str(hub),
                "rows_kept": report.rows_kept,
                "rows_dropped": report.rows_dropped,
                "batches_dropped": report.batches_dropped,
                "dropped": dropped,
            }
        )
        return
    for found in report.dropped:
        output.say(f"{found.path}: {found.what}")
    output.say(f"{report.rows_kept:,} rows kept, {report.rows_dropped:,} rows dropped")
    if report.batches_dropped:
        output.say(
            f"batches dropped: {report.batches_dropped:,}; how many rows they set, overwrote or "
            "deleted is not known"
        )


@app.command()
def compact(
    hub: Hub,
    space: Annotated[
        str | None, typer.Argument(metavar="[SPACE]", help="One space; default: all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Free the disk space of deleted and overwritten rows.

    Rewrites segments without their dead rows, and small ones together.
    """
    with open_to_write(hub) as store:
        before = disk_bytes(str(hub))
        names = sorted(store.spaces()) if space is None else [find_space(store, space).name]
        for name in names:
            store.get_space(name).compact(progress=True)
    after = disk_bytes(str(hub))
    if as_json:
        output.print_json(
            {"hub": str(hub), "spaces": names, "bytes_before": before, "bytes_after": after}
        )
    else:
        sizes = f"{output.bytes_text(before)} before, {output.bytes_text(after)} after"
        output.say(f"compacted {len(names)} spaces: {sizes}")


@app.command()
def delete_space(hub: Hub, space: SpaceName, yes: Yes = False) -> None:
    """Delete a space and all its vectors."""
    with open_to_write(hub) as store:
        rows = len(find_space(store, space))
        if not yes:
            confirm(f"Delete space {space!r} with {rows:,} rows? It cannot be undone.")
        store.delete_space(space)
    output.say(f"deleted space {space!r} with {rows:,} rows")
