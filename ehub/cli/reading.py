"""Commands that read: they open the hub beside its writer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

import ehub
from ehub.cli import output
from ehub.cli.app import (
    AtTag,
    Hub,
    HubOrDefault,
    Json,
    SpaceName,
    VersionName,
    app,
    find_version,
    open_to_read,
    parse_keys,
    view_of,
)
from ehub.formats.arrays import map_npy
from ehub.view import View

SHOWN_NUMBERS = 6  # of a vector, to a person


@app.command()
def info(hub: HubOrDefault, as_json: Json = False) -> None:
    """Show the spaces of a hub, and its size on disk."""
    with open_to_read(hub) as store:
        spaces = [describe(store.get_space(name)) for name in sorted(store.spaces())]
        size = store.info().disk_bytes
    if as_json:
        output.print_json({"hub": str(hub), "bytes_on_disk": size, "spaces": spaces})
        return
    if output.on_terminal():
        output.say(f"{hub}: {output.bytes_text(size)} on disk, {len(spaces)} spaces")
    columns = ["space", "rows ", "dims ", "metric", "keys", "segments ", "dead rows "]
    names = ["name", "rows", "dims", "metric", "key_type", "segments", "rows_dead"]
    if spaces:
        output.print_table(columns, ([space[name] for name in names] for space in spaces))


def describe(space: ehub.Space) -> dict[str, Any]:
    """All there is to say about a space, for JSON."""
    stats = space.stats()
    return {
        "name": space.name,
        "rows": len(space),
        "dims": space.dims,
        "metric": space.metric,
        "key_type": space.key_type,
        "segments": len(stats.segments),
        "rows_dead": sum(segment.rows_dead for segment in stats.segments),
        "bytes": sum(segment.bytes for segment in stats.segments),
        "partitions": space.partitions(),
    }


@app.command()
def spaces(hub: HubOrDefault, as_json: Json = False) -> None:
    """List the names of a hub's spaces."""
    with open_to_read(hub) as store:
        names = sorted(store.spaces())
    if as_json:
        output.print_json(names)
    else:
        output.print_table(["space"], ([name] for name in names))


@app.command()
def partitions(
    hub: Hub,
    space: SpaceName,
    version: VersionName = None,
    at: AtTag = None,
    as_json: Json = False,
) -> None:
    """List the partitions of a space, and how many rows each has."""
    with open_to_read(hub) as store:
        counts = view_of(store, space, version, at).partitions()
    if as_json:
        output.print_json({"space": space, "partitions": counts})
    else:
        output.print_table(["partition", "rows "], sorted(counts.items()))


@app.command()
def subindices(
    hub: Hub, space: SpaceName, version: VersionName = None, as_json: Json = False
) -> None:
    """List the sub-indices of a space, and how many rows each has."""
    with open_to_read(hub) as store:
        counts = find_version(store, space, version).subindices()
    if as_json:
        output.print_json({"space": space, "subindices": counts})
    else:
        output.print_table(["sub-index", "rows "], counts.items())


@app.command()
def get(
    hub: Hub,
    space: SpaceName,
    keys: Annotated[list[str], typer.Argument(metavar="KEY...", help="One key or more.")],
    version: VersionName = None,
    at: AtTag = None,
    as_json: Json = False,
) -> None:
    """Print the vectors of some keys.

    Elsewhere than on a terminal: per key one line, the key, a tab, and the vector as JSON.
    """
    with open_to_read(hub) as store:
        items = view_of(store, space, version, at)
        wanted = parse_keys(items, keys)
        vectors = np.array(items.multiget(wanted))
    if as_json:
        rows = [
            {"key": key, "vector": output.numbers(vector)}
            for key, vector in zip(wanted, vectors, strict=True)
        ]
        output.print_json({"space": space, "rows": rows})
    elif output.on_terminal():
        output.print_table(["key", "vector"], zip(wanted, map(shortened, vectors), strict=True))
    else:
        texts = (json.dumps(output.numbers(vector)) for vector in vectors)
        output.print_table(["key", "vector"], zip(wanted, texts, strict=True))


def shortened(vector: NDArray[np.float32]) -> str:
    """A vector's first numbers."""
    shown = ", ".join(f"{number:.4g}" for number in vector[:SHOWN_NUMBERS].tolist())
    rest = len(vector) - SHOWN_NUMBERS
    return f"[{shown}, ... {rest} more]" if rest > 0 else f"[{shown}]"


@app.command()
def search(
    hub: Hub,
    space: SpaceName,
    key: Annotated[
        str | None, typer.Option(help="Search around this key, which is left out.")
    ] = None,
    vector: Annotated[
        str | None,
        typer.Option(
            help="Search around a vector: a JSON list, a .npy file, or - for JSON on stdin."
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many neighbors.")] = 10,
    max_distance: Annotated[float | None, typer.Option(help="Leave out what is farther.")] = None,
    partition: Annotated[
        list[str] | None,
        typer.Option(help="Only rows of this partition; may be given several times."),
    ] = None,
    subindex: Annotated[str | None, typer.Option(help="Only rows of this sub-index.")] = None,
    version: VersionName = None,
    at: AtTag = None,
    as_json: Json = False,
) -> None:
    """Print the nearest neighbors of a key or a vector."""
    if (key is None) == (vector is None):
        raise typer.BadParameter("say either --key or --vector")
    if subindex is not None and at is not None:
        raise typer.BadParameter("--subindex is of now, and --at of another time")
    query = None if vector is None else read_vector(vector)
    with open_to_read(hub) as store:
        if subindex is None:
            items: View = view_of(store, space, version, at)
        else:
            items = find_version(store, space, version).subindex(subindex)
        wanted = None if key is None else parse_keys(items, [key])[0]
        found = items.nearest_neighbors(
            k, key=wanted, vector=query, max_distance=max_distance, partition=partition or None
        )
        metric = items.metric
    if as_json:
        neighbors = [neighbor._asdict() for neighbor in found]
        output.print_json({"space": space, "metric": metric, "neighbors": neighbors})
    else:
        output.print_table(["key", f"{metric} distance "], found)


def read_vector(text: str) -> NDArray[Any]:
    """The vector that the user gave: JSON, a file, or standard input."""
    if text.endswith(".npy"):
        if not Path(text).exists():
            raise typer.BadParameter(f"{text}: no such file")
        loaded = map_npy(Path(text))
    else:
        try:
            loaded = np.asarray(json.loads(sys.stdin.read() if text == "-" else text))
        except (ValueError, RecursionError) as error:
            raise typer.BadParameter(
                f"--vector is neither JSON nor a .npy file: {error}"
            ) from error
    if loaded.ndim == 2 and len(loaded) == 1:
        loaded = loaded[0]
    if loaded.ndim != 1 or loaded.dtype.kind not in "fiu":
        raise typer.BadParameter("--vector must be one list of numbers")
    return np.array(loaded)
