"""What every command shares: the typer application, common arguments, and how a hub is opened."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

import ehub
from ehub.view import View

EXIT_CODES = (
    "Exit codes: 0 done; 1 the command failed, or verify found damage; "
    "2 wrong usage; 130 interrupted by Ctrl-C."
)

EXIT_FAILED = 1

app = typer.Typer(
    name="ehub",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES,
)


class Failure(Exception):
    """A command cannot do what was asked; what to do about it goes with it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Interrupted(Exception):
    """Ctrl-C, and what has been done by then."""


def directory(text: str) -> Path:
    """The hub's directory as it was typed; an empty one would be the current directory."""
    if not text:
        raise typer.BadParameter("HUB is empty; say . for the current directory")
    return Path(text)


Hub = Annotated[Path, typer.Argument(metavar="HUB", parser=directory, help="The hub's directory.")]
HubOrDefault = Annotated[
    Path,
    typer.Argument(
        metavar="HUB",
        parser=directory,
        envvar="EMBEDDINGHUB_DATA",
        help="The hub's directory.",
    ),
]
SpaceName = Annotated[str, typer.Argument(metavar="SPACE", help="The space's name.")]
VersionName = Annotated[
    str | None,
    typer.Option(
        "--version", metavar="NAME", help="A version of the space, or an alias; default: its own."
    ),
]
AtTag = Annotated[
    str | None,
    typer.Option("--at", metavar="TAG", help="The version as it was at a tag or a snapshot."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def open_to_read(hub: Path) -> ehub.Hub:
    """Open an existing hub beside whoever else uses it."""
    return ehub.open(hub, read_only=True)


def open_to_write(hub: Path) -> ehub.Hub:
    """Open an existing hub as its writer; a mistyped name makes no new one."""
    open_to_read(hub).close()
    return ehub.open(hub)


def find_space(hub: ehub.Hub, name: str) -> ehub.Space:
    """A space by its name; if there is none, the failure says which names are close."""
    if name in hub:
        return hub.get_space(name)
    names = sorted(hub.spaces())
    close = difflib.get_close_matches(name, names, n=3)
    if close:
        hint = f"did you mean {' or '.join(map(repr, close))}?"
    elif names:
        hint = f"the hub's spaces: {', '.join(names[:20])}{' ...' if len(names) > 20 else ''}"
    else:
        hint = "the hub has no spaces yet: ehub import makes one"
    raise Failure(f"no space {name!r:.100} in this hub", hint)


def find_version(hub: ehub.Hub, space: str, version: str | None) -> ehub.Version:
    """A version of a space by its name or an alias; without one, what the space reads and writes.

    If there is none, the failure says which there are.
    """
    items = find_space(hub, space)
    if version is None:
        return items.current
    known = [*items.versions(), *items.aliases()]
    if version not in known:
        raise Failure(
            f"space {space!r} has no version {version!r:.100}", f"there are: {', '.join(known)}"
        )
    return items.version(version)


def find_snapshot(hub: ehub.Hub, space: str, version: str | None, at: str) -> ehub.Snapshot:
    """A version as it was at a tag, good while the hub is open.

    If there is no such tag, the failure says which there are.
    """
    found = find_version(hub, space, version)
    known = [tag.name for tag in (*found.tags(), *found.snapshots())]
    if at not in known:
        there = f"there are: {', '.join(known)}" if known else "it has none: ehub tag makes one"
        raise Failure(f"version {found.name!r} of space {space!r} has no tag {at!r:.100}", there)
    return found.at(at)


def view_of(
    hub: ehub.Hub, space: str, version: str | None = None, at: str | None = None
) -> ehub.Version | ehub.Snapshot:
    """What a command reads: a version, as it is now or was at a tag; good while the hub is open."""
    if at is None:
        return find_version(hub, space, version)
    return find_snapshot(hub, space, version, at)


def parse_keys(space: View | ehub.Averages, texts: Iterable[str]) -> list[str] | list[int]:
    """Keys as typed on the command line, as this space has them."""
    if space.key_type == "str":
        return list(texts)
    keys = []
    for text in texts:
        try:
            keys.append(int(text))
        except ValueError:
            raise typer.BadParameter(
                f"{text!r:.100} is not an integer, and keys of {space.name!r} are"
            ) from None
    return keys


def confirm(question: str) -> None:
    """Ask before something that cannot be undone."""
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:  # the end of the input, or Ctrl-C
        typer.echo(err=True)
        agreed = False
    if not agreed:
        raise Failure("nothing was changed", "answer y, or say --yes")
