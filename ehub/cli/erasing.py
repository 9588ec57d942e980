"""The command that erases keys for good: erase."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

import ehub
from ehub.cli import output
from ehub.cli.app import (
    Failure,
    Json,
    SpaceName,
    Yes,
    app,
    confirm,
    find_space,
    open_to_read,
    open_to_write,
)
from ehub.cli.reaching import HubPlace, Server, asks_server, hub_at, is_address
from ehub.erasure import READS_ONLY


@app.command()
@asks_server
def erase(
    hub: HubPlace,
    server: Server,
    space: SpaceName,
    keys: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY]...", help="The keys to erase.")
    ] = None,
    keys_from: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", allow_dash=True, help="Read keys, one a line; - is standard input."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what has the keys, and change nothing.")
    ] = False,
    wait: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Wait for readers to let go of files.")
    ] = 0.0,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Erase keys for good: from every version, tag, fork and average, and from every file.

    Prints a receipt, which has hashes of the keys and not the keys. Exits with 1 if reader
    processes still hold files with them: erase again when they are gone.
    """
    texts = [*(keys or []), *read_keys(keys_from)]
    if not texts:
        raise typer.BadParameter("no keys: give some, or --keys-from FILE")
    if dry_run:
        with hub_at(hub, server, open_to_read) as store:
            plan = find_space(store, space).erasure_plan(as_typed(store, space, texts))
        if not is_address(hub):  # opened so to plan, beside a writer; to erase it will not be
            blockers = tuple(blocker for blocker in plan.blockers if blocker != READS_ONLY)
            plan = replace(plan, blockers=blockers)
        show(plan, as_json)
        return
    with hub_at(hub, server, open_to_write) as store:
        found = find_space(store, space)
        typed = as_typed(store, space, texts)
        if not yes:
            confirm(f"Erase {len(typed):,} keys from {space!r} for good, from its tags as well?")
        receipt = found.erase(typed, wait=wait, progress=True)
    show(receipt, as_json)
    if not receipt.complete:
        output.note("reader processes hold files with the keys; erase again when they are closed")
        raise typer.Exit(1)


def read_keys(path: Path | None) -> list[str]:
    """The lines of a file; none if there is no file."""
    if path is None:
        return []
    if str(path) == "-":
        return [line for line in sys.stdin.read().splitlines() if line]
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Failure(f"cannot read keys from {path}: {error}") from error
    return [line for line in text.splitlines() if line]


def as_typed(store: ehub.Hub, space: str, texts: list[str]) -> list[str | int]:
    """Keys as typed, as all kinds of keys that the versions of the space have."""
    items = find_space(store, space)
    kinds = {items.version(name).key_type for name in items.versions()}
    typed: list[str | int] = []
    for text in texts:
        found = [text] if "str" in kinds else []
        number = as_integer(text) if "int" in kinds else None
        if not found and number is None:
            raise typer.BadParameter(
                f"{text!r:.100} is not an integer, and keys of space {space!r} are"
            )
        typed += found if number is None else [*found, number]
    return typed


def as_integer(text: str) -> int | None:
    """A number, if it is one."""
    try:
        return int(text)
    except ValueError:
        return None


def show(what: ehub.ErasurePlan | ehub.ErasureReceipt, as_json: bool) -> None:
    """A plan or a receipt."""
    if as_json:
        output.print_json(what.to_dict())
    else:
        output.say(str(what))
