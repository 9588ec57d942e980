"""Commands about points in time: snapshot, tag, restore, fork, diff."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from itertools import islice
from typing import Annotated, Any

import typer

import ehub
from ehub.cli import output
from ehub.cli.app import (
    AtTag,
    Hub,
    Json,
    SpaceName,
    VersionName,
    Yes,
    app,
    confirm,
    find_snapshot,
    find_version,
    open_to_read,
    open_to_write,
    view_of,
)

SHOWN_KEYS = 10  # of each kind, to a person

TagName = Annotated[str, typer.Argument(metavar="TAG", help="A tag's name.")]
Message = Annotated[str, typer.Option("--message", "-m", help="Why.")]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="NAME=TEXT", help="A label; may be given several times."),
]


def parse_labels(texts: list[str] | None) -> dict[str, str]:
    """Labels as typed: name=text."""
    labels = {}
    for text in texts or []:
        name, separator, value = text.partition("=")
        if not name or not separator:
            raise typer.BadParameter(f"--label is {text!r:.100}; expected NAME=TEXT")
        labels[name] = value
    return labels


def describe(tag: ehub.Tag) -> dict[str, Any]:
    """A tag for JSON."""
    return {**asdict(tag), "labels": dict(tag.labels)}


@app.command()
def tag(
    hub: Hub,
    space: SpaceName,
    name: TagName,
    message: Message = "",
    label: Labels = None,
    version: VersionName = None,
    as_json: Json = False,
) -> None:
    """Give what a space holds now a name that lasts.

    The rows are kept as they are until ehub untag lets them go, whatever is written meanwhile.
    """
    with open_to_write(hub) as store:
        made = find_version(store, space, version).tag(
            name, message=message, labels=parse_labels(label)
        )
    if as_json:
        output.print_json(describe(made))
    else:
        output.say(f"tagged space {space!r} as {name!r}")


@app.command()
def untag(hub: Hub, space: SpaceName, name: TagName, version: VersionName = None) -> None:
    """Let a tag go, or a snapshot, and the rows that only it has kept."""
    with open_to_write(hub) as store:
        find_version(store, space, version).untag(name)
    output.say(f"removed tag {name!r} of space {space!r}")


@app.command()
def tags(hub: Hub, space: SpaceName, version: VersionName = None, as_json: Json = False) -> None:
    """List the tags and snapshots of a space, oldest first."""
    with open_to_read(hub) as store:
        found = find_version(store, space, version)
        listed = sorted([*found.tags(), *found.snapshots()], key=lambda tag: (tag.seq, tag.created))
    if as_json:
        output.print_json({"space": space, "tags": [describe(tag) for tag in listed]})
    else:
        rows = ([tag.name, tag.created, tag.created_by, tag.message] for tag in listed)
        output.print_table(["tag", "created", "by", "message"], rows)


@app.command()
def snapshot(
    hub: Hub,
    space: SpaceName,
    message: Message = "",
    keep_last: Annotated[
        int | None, typer.Option(min=1, help="Let all but so many of the youngest snapshots go.")
    ] = None,
    keep_days: Annotated[
        float | None, typer.Option(min=0, help="Let snapshots go that are older.")
    ] = None,
    version: VersionName = None,
    as_json: Json = False,
) -> None:
    """Record what a space holds now, without a name, until a rule lets it go.

    It gets a number, @1, @2 ..., which works wherever a tag does. --keep-last and --keep-days say
    which snapshots stay; with both, those that either keeps. Tags stay whatever they say.
    """
    age = None if keep_days is None else timedelta(days=keep_days)
    with open_to_write(hub) as store:
        found = find_version(store, space, version)
        with found.snapshot(message) as made:
            recorded = made.tag
        assert recorded is not None  # it has a message, so it was recorded
        expired = []
        if keep_last is not None or age is not None:
            expired = found.expire_snapshots(keep_last=keep_last, keep_for=age)
    if as_json:
        output.print_json({**describe(recorded), "expired": [one.name for one in expired]})
        return
    output.say(f"recorded snapshot {recorded.name} of space {space!r}")
    for one in expired:
        output.say(f"expired snapshot {one.name}")


@app.command()
def restore(
    hub: Hub, space: SpaceName, name: TagName, version: VersionName = None, yes: Yes = False
) -> None:
    """Make the rows of a space again what they were at a tag.

    What it holds now stays with the tags that it has: to be able to come back, tag it first.
    """
    with open_to_write(hub) as store:
        found = find_version(store, space, version)
        with find_snapshot(store, space, version, name) as there:
            before, after = len(found), len(there)
        if not yes:
            confirm(f"Restore space {space!r}, {before:,} rows, to tag {name!r}, {after:,} rows?")
        found.restore(name)
    output.say(f"restored space {space!r} to tag {name!r}: {after:,} rows")


@app.command()
def fork(
    hub: Hub,
    space: SpaceName,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the new version.")],
    version: VersionName = None,
    at: AtTag = None,
    label: Labels = None,
) -> None:
    """Make a version of a space that begins with the rows of another, and shares its files."""
    with open_to_write(hub) as store:
        if at is not None:
            find_snapshot(store, space, version, at).close()
        made = find_version(store, space, version).fork(name, at=at, labels=parse_labels(label))
        rows = len(made)
    output.say(f"forked version {name!r} of space {space!r}: {rows:,} rows")


@app.command()
def diff(
    hub: Hub,
    space: SpaceName,
    since: Annotated[str, typer.Argument(metavar="SINCE", help="A tag or a snapshot.")],
    until: Annotated[
        str | None, typer.Argument(metavar="[UNTIL]", help="Another; default: now.")
    ] = None,
    version: VersionName = None,
    as_json: Json = False,
) -> None:
    """Show which keys were added, removed and changed since a tag, and how far they moved.

    Elsewhere than on a terminal: a line for each key, with a tab: added, removed or changed, the
    key, and of changed ones 1 - cosine and the Euclidean distance between the two vectors.
    """
    with open_to_read(hub) as store:
        before = view_of(store, space, version, since)
        after = view_of(store, space, version, until)
        found = find_version(store, space, version).diff(before, after, progress=True)
    if as_json:
        output.print_json({"space": space, **found.to_dict(), "quantiles": found.quantiles()})
    elif output.on_terminal():
        show(found)
    else:
        output.print_table([""] * 4, lines(found))


def lines(found: ehub.Diff) -> list[list[object]]:
    """A line for each key."""
    moved = zip(found.changed.tolist(), found.cosine.tolist(), found.l2.tolist(), strict=True)
    return [
        *(["added", key, "", ""] for key in found.added.tolist()),
        *(["removed", key, "", ""] for key in found.removed.tolist()),
        *(["changed", key, cosine, l2] for key, cosine, l2 in moved),
    ]


def show(found: ehub.Diff) -> None:
    """Counts, some of the keys, and quantiles, for a person."""
    for name, keys in (
        ("added", found.added),
        ("removed", found.removed),
        ("changed", found.changed),
    ):
        some = ", ".join(map(str, islice(keys.tolist(), SHOWN_KEYS)))
        more = " ..." if len(keys) > SHOWN_KEYS else ""
        output.say(f"{name:8} {len(keys):>12,}  {some}{more}")
    for measure, shares in found.quantiles().items():
        texts = ", ".join(f"{float(share):.0%} {value:.4g}" for share, value in shares.items())
        output.say(f"moved, {measure}: {texts}")
