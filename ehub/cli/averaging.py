"""The command about averages: of some keys, and the named ones of a space."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated, Any

import numpy as np
import typer

import ehub
from ehub.cli import output
from ehub.cli.app import (
    AtTag,
    Hub,
    Json,
    SpaceName,
    VersionName,
    app,
    find_version,
    open_to_read,
    parse_keys,
    view_of,
)
from ehub.cli.reading import shortened
from ehub.types import Vectors


@app.command("average")
def average(
    hub: Hub,
    space: SpaceName,
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY...]", help="Keys to average; with --name, groups to show."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="A named average of the space.")] = None,
    normalize: Annotated[
        bool, typer.Option("--normalize", help="Scale the average of keys to unit length.")
    ] = False,
    version: VersionName = None,
    at: AtTag = None,
    as_json: Json = False,
) -> None:
    """Print the average of some keys, or what named averages there are.

    With keys, their average. With --name, the groups of that average, or the means of the groups
    given. With neither, the named averages. Means are those that the writer last made; "old" is how
    many groups have changed since.
    """
    if normalize and (name is not None or not keys):
        raise typer.BadParameter("--normalize is for the average of keys")
    if at is not None and (name is not None or not keys):
        raise typer.BadParameter("--at is for the average of keys: named averages are those of now")
    with open_to_read(hub) as store:
        items = find_version(store, space, version)
        if name is not None:
            show_named(items.averages(name), keys or [], as_json)
        elif keys:
            view = view_of(store, space, version, at)
            mean = view.average(parse_keys(view, keys), normalize=normalize)
            show_vectors({"space": space, "keys": len(keys)}, [("average", mean)], as_json)
        else:
            show_all(items, as_json)


def show_all(items: ehub.Version, as_json: bool) -> None:
    """The named averages of a space."""
    found = [items.averages(name) for name in items.averages()]
    rows = [
        {"name": one.name, "groups": len(one.groups()), "means": len(one), "old": one.stale()}
        for one in found
    ]
    if as_json:
        output.print_json({"space": items.space, "averages": rows})
    else:
        output.print_table(
            ["average", "groups ", "means ", "old "], (list(row.values()) for row in rows)
        )


def show_named(found: ehub.Averages, texts: list[str], as_json: bool) -> None:
    """The groups of a named average, or the means of some of them."""
    if texts:
        groups = parse_keys(found, texts)
        means = zip(groups, found.multiget(groups), strict=True)
        show_vectors({"average": found.name, "old": found.stale()}, means, as_json)
        return
    every = found.groups().tolist()
    _, there = found.multiget(every, default=None)
    sizes = [len(found.members(group)[0]) for group in every]
    rows = list(zip(every, sizes, there.tolist(), strict=True))
    if as_json:
        names = ("group", "members", "has_mean")
        listed = [dict(zip(names, row, strict=True)) for row in rows]
        output.print_json({"average": found.name, "old": found.stale(), "groups": listed})
    else:
        shown = ((group, size, "yes" if mean else "no") for group, size, mean in rows)
        output.print_table(["group", "members ", "mean"], shown)


def show_vectors(about: dict[str, Any], rows: Iterable[tuple[Any, Vectors]], as_json: bool) -> None:
    """Vectors, each with what it is called."""
    if as_json:
        means = [{"key": key, "vector": output.numbers(np.asarray(vector))} for key, vector in rows]
        output.print_json({**about, "means": means})
    elif output.on_terminal():
        output.print_table(["key", "vector"], ((key, shortened(vector)) for key, vector in rows))
    else:
        texts = ((key, json.dumps(output.numbers(vector))) for key, vector in rows)
        output.print_table(["key", "vector"], texts)
