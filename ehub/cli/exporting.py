"""The command `export`: a space into a file, which then exists whole or not at all."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

import ehub
from ehub.cli import output
from ehub.cli.app import (
    AtTag,
    Failure,
    Hub,
    Json,
    VersionName,
    app,
    find_version,
    open_to_read,
    view_of,
)
from ehub.cli.files import require_writable
from ehub.formats import Keys, Sink, SinkSchema, open_sink
from ehub.formats.sink import SINKS, StreamSink
from ehub.types import KeyArray
from ehub.view import View

BATCH_BYTES = 16 << 20  # of vectors
STDOUT = Path("-")


@app.command("export")
def export_space(
    hub: Hub,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help=f"A file that ends in {', '.join(SINKS)}; - : CSV on stdout."
        ),
    ],
    space: Annotated[str, typer.Option(help="The space to export.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT if it exists.")] = False,
    version: VersionName = None,
    at: AtTag = None,
    as_json: Json = False,
) -> None:
    """Write all keys and vectors of a space to a file.

    The end of its name tells the format; ehub import reads each of them back to the same keys and,
    bit for bit, the same vectors. For x.npy, which has only the vectors, the keys go to x.keys.npy
    beside it. A .parquet file also says of which version they are, with its model and lineage, in
    its metadata. The file appears when it is complete. Memory holds a batch of vectors at a time;
    for NumPy's formats also all keys.
    """
    if out == STDOUT and as_json:
        raise typer.BadParameter("--json and OUT - both want standard output")
    if out != STDOUT and out.suffix.lower() not in SINKS:
        raise typer.BadParameter(f"{out}: a name must end in one of: {', '.join(SINKS)}")
    if out != STDOUT:
        require_writable(out)
    with open_to_read(hub) as store:
        items = view_of(store, space, version, at)
        about = describe(find_version(store, space, version), at)
        schema = SinkSchema(len(items), items.dims, items.metric, items.key_type, about)
        if out == STDOUT:
            copy(items, StreamSink(sys.stdout, schema))
            return
        export_to_file(items, out, schema, force=force)
    if as_json:
        output.print_json(
            {"space": space, "rows": schema.rows, "dims": schema.dims, "out": str(out)}
        )
    else:
        output.say(f"wrote {schema.rows:,} rows of space {space!r} to {out}")


def describe(version: ehub.Version, tag: str | None) -> dict[str, Any]:
    """What the rows are of, as plain values."""
    return {
        "space": version.space,
        "version": version.name,
        "tag": tag,
        "model": None if version.model is None else version.model.to_dict(),
        "lineage": version.lineage.to_dict(),
        "created": version.created,
    }


def export_to_file(space: View, out: Path, schema: SinkSchema, *, force: bool) -> None:
    """Write to temporary names beside OUT; rename when complete, remove on any failure."""
    part = out.with_name(f".{out.stem}.partial{out.suffix}")
    companions = SINKS[out.suffix.lower()].companions
    pairs = [*zip(companions(part), companions(out), strict=True), (part, out)]
    for _, final in pairs:
        if final.exists() and not force:
            raise Failure(f"{final} exists", "say --force to overwrite it")
    try:
        copy(space, open_sink(part, out.suffix, schema))
        for temporary, final in pairs:
            temporary.replace(final)
    finally:
        for temporary, _ in pairs:
            with suppress(FileNotFoundError):
                temporary.unlink()


def copy(space: View, sink: Sink) -> None:
    """Write all rows."""
    batch_rows = max(1, BATCH_BYTES // (4 * sink.schema.dims))
    complete = False
    with output.progress_bar(sink.schema.rows, "exporting") as bar:
        try:
            for keys, vectors in space.scan(batch_rows=batch_rows):
                sink.write(as_listed(keys), vectors)
                bar.update(len(vectors))
            sink.close()
            complete = True
        finally:
            if not complete:
                sink.abandon()


def as_listed(keys: KeyArray) -> Keys:
    """Keys of a scan as a file takes them: `int64[n]`, or a list of `str`."""
    return keys.tolist() if keys.dtype == object else keys.astype(np.int64, copy=False)
