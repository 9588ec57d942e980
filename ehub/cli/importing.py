"""The command `import`: files of embeddings into a space, in atomic batches, resumably.

Resuming needs no record of how far the last run came: the space is the record. With `--resume`
each batch is first compared with what the space holds, and written only if a key is missing or a
vector differs. So it is right after any end (Ctrl-C, kill -9, a power cut), whatever else was
written to or deleted from the space in between, and costs a read of what is there already. Files
are read in order, and of a key that occurs twice the last row wins, resumed or not.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import numpy as np
import typer

import ehub
from ehub.cli import output
from ehub.cli.app import (
    Failure,
    Hub,
    Interrupted,
    Json,
    app,
    find_space,
    find_version,
    open_to_read,
)
from ehub.formats import (
    InputError,
    Keys,
    KeyType,
    Selection,
    Vectors,
    convert_keys,
    open_source,
)
from ehub.model import DIMS_MAX
from ehub.types import Metric

BATCH_BYTES = 32 << 20  # of vectors, unless --batch-rows says otherwise
METRICS = get_args(Metric)


@dataclass(frozen=True)
class Plan:
    """What the files hold, known before anything is written."""

    files: list[Path]
    selection: Selection
    rows: int | None
    dims: int
    metric: str | None
    key_type: KeyType
    found: str  # for people: where keys and vectors come from


@dataclass(frozen=True)
class Target:
    """The space, or the version of one, that the files go to, as it is or is to be made."""

    name: str
    version: str | None  # None: what the space itself writes
    dims: int
    metric: Metric
    key_type: KeyType


@dataclass
class Progress:
    """How many rows have been dealt with so far."""

    stored: int = 0
    skipped: int = 0
    keys_added: int = 0  # of the rows stored, those whose key the space did not have

    @property
    def replaced(self) -> int:
        """Rows stored in place of others with the same key, from these files or older."""
        return self.stored - self.keys_added

    @property
    def done(self) -> int:
        """Rows of the files that the space now holds."""
        return self.stored + self.skipped


Files = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...",
        exists=True,
        dir_okay=False,
        help="Files that end in .npy, .npz, .h5, .hdf5, .parquet, .pq, .csv or .tsv.",
    ),
]
KeysFrom = Annotated[
    str | None,
    typer.Option(
        help="Where the keys are: the name of an array, dataset or column (in CSV also its number, "
        "from 0), or a file: keys.npy, keys.txt (one per line), table.csv:column."
    ),
]
NoKeys = Annotated[
    bool, typer.Option("--no-keys", help="Take no keys from the files; row numbers are the keys.")
]
VectorsFrom = Annotated[
    str | None,
    typer.Option(help="The array or dataset, or the column or columns (a,b,c), of vectors."),
]
MetricOption = Annotated[
    Metric | None,
    typer.Option(help="Of a new space. Default: what the file says, or cosine."),
]
KeyTypeOption = Annotated[
    KeyType | None,
    typer.Option(help="Of a new space. Default: as the files' keys are."),
]
Header = Annotated[
    bool | None,
    typer.Option("--header/--no-header", help="Of a CSV file. Default: look at the first line."),
]
Create = Annotated[
    bool, typer.Option("--create/--no-create", help="Make hub and space if there are none.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Skip batches that the space holds already.")
]
BatchRows = Annotated[
    int | None, typer.Option(min=1, help="Rows per atomic batch. Default: 32 MiB of them.")
]


@app.command("import")
def import_files(
    hub: Hub,
    files: Files,
    space: Annotated[str, typer.Option(help="The space to import into.")],
    version: Annotated[
        str | None,
        typer.Option(
            "--version", metavar="NAME", help="A version of an existing space, made if missing."
        ),
    ] = None,
    keys: KeysFrom = None,
    no_keys: NoKeys = False,
    vectors: VectorsFrom = None,
    dims: Annotated[int | None, typer.Option(min=1, help="Refuse files with other dims.")] = None,
    metric: MetricOption = None,
    key_type: KeyTypeOption = None,
    header: Header = None,
    create: Create = True,
    resume: Resume = False,
    batch_rows: BatchRows = None,
    as_json: Json = False,
) -> None:
    """Store the embeddings that files hold in a space.

    Keys and vectors are found by their usual names (keys, key, id; vectors, embeddings; train in
    HDF5) unless you name them. A .npy file takes its keys from FILE.keys.npy beside it if that
    exists, a CSV file from its first column if that holds no numbers. Files without keys get row
    numbers as integer keys, counted on from file to file. Of a key that comes again, the last row
    stays. Vectors are stored as float32. Memory holds a batch at a time, however large the files
    are.

    Each batch is atomic, and durable before the next is read. Ctrl-C stops after the batch at hand
    (exit code 130); a failure or even kill -9 leaves whole batches stored. To go on, run the same
    command with --resume: it compares each batch with what the space holds, and writes only those
    that are not there with the same vectors. It keeps no record of its own, so it is right whatever
    happened to the space since. Without --resume all is written again, which ends in the same
    state.
    """
    if keys is not None and no_keys:
        raise typer.BadParameter("say either --keys or --no-keys")
    plan = make_plan(files, Selection(keys, no_keys, vectors, header))
    if dims is not None and dims != plan.dims:
        raise Failure(f"the files have {plan.dims} dims, not {dims}")
    target = find_target(hub, space, version, plan, metric, key_type, create=create)
    started = time.perf_counter()
    progress = Progress()
    rows_at_once = batch_rows or max(1, BATCH_BYTES // (4 * plan.dims))
    said = "" if as_json else f"{plan.found}; {target.dims} dims, {target.metric}"
    with output.progress_bar(plan.rows, "importing") as bar, deferred_interrupt() as stop:
        todo = blocks(plan, target.key_type, rows_at_once)
        beginning = list(islice(todo, 1))  # a file that cannot be read makes no hub and no space
        with ehub.open(hub) as store, opened(store, target, progress) as items:
            if said:
                output.note(said)
            complete = copy(chain(beginning, todo), items, progress, resume, bar, stop)
    seconds = time.perf_counter() - started
    report(plan, space, progress, seconds, as_json=as_json, complete=complete)


def make_plan(files: list[Path], selection: Selection) -> Plan:
    """Open each file once, to refuse what does not fit before anything is written."""
    rows: int | None = 0
    dims: dict[int, Path] = {}
    metrics: dict[str, Path] = {}
    key_types: set[KeyType] = set()
    found: dict[str, Path] = {}
    for path in files:
        with open_source(path, selection) as source:
            rows = None if rows is None or source.rows is None else rows + source.rows
            if not 1 <= source.dims <= DIMS_MAX:
                raise InputError(
                    f"{path}: the first vector has {source.dims} dims; expected 1 to {DIMS_MAX:,}"
                )
            dims.setdefault(source.dims, path)
            if source.metric is not None:
                metrics.setdefault(source.metric, path)
            key_types.add(source.key_type)
            found.setdefault(source.found, path)
    refuse_mixture("dims", dims)
    refuse_mixture("metric", metrics)
    [dims_of_all] = dims
    key_type: KeyType = "int" if key_types == {"int"} else "str"
    texts = list(found) if len(found) == 1 else [f"{path}: {text}" for text, path in found.items()]
    metric = next(iter(metrics), None)
    return Plan(files, selection, rows, dims_of_all, metric, key_type, "\n".join(texts))


def refuse_mixture(what: str, values: dict[Any, Path]) -> None:
    """Files of one import agree."""
    if len(values) > 1:
        texts = [f"{path} has {what} {value}" for value, path in values.items()]
        raise Failure(f"the files do not fit together: {', '.join(texts)}")


def find_target(
    hub: Path,
    name: str,
    version: str | None,
    plan: Plan,
    metric: Metric | None,
    key_type: KeyType | None,
    *,
    create: bool,
) -> Target:
    """The space as it is, if the files and options fit it, or as it is to be made."""
    try:
        with open_to_read(hub) as store:
            if name in store or version is not None or not create:
                items = find_space(store, name)
                if version is None:
                    return check_space(items, version, plan, metric, key_type)
                if version in (*items.versions(), *items.aliases()) or not create:
                    found = find_version(store, name, version)
                    return check_space(found, version, plan, metric, key_type)
    except ehub.NotFoundError:  # no such hub
        if version is not None or not create:
            raise
    if metric is None and plan.metric not in (None, *METRICS):
        raise Failure(f"the files' metric is {plan.metric!r}", "say --metric, cosine, l2 or ip")
    chosen = metric or cast("Metric", plan.metric) or "cosine"
    return Target(name, version, plan.dims, chosen, key_type or plan.key_type)


def check_space(
    view: ehub.Version,
    version: str | None,
    plan: Plan,
    metric: Metric | None,
    key_type: KeyType | None,
) -> Target:
    """An existing space or version, if the files and options fit it."""
    what = f"space {view.space!r}" if version is None else f"version {version!r}"
    if view.dims != plan.dims:
        raise Failure(
            f"the files have {plan.dims} dims, {what} has {view.dims}",
            "import into another space or version: --space NAME, --version NAME",
        )
    if metric is not None and metric != view.metric:
        raise Failure(f"{what} has metric {view.metric}, not {metric}")
    if key_type is not None and key_type != view.key_type:
        raise Failure(f"{what} has {view.key_type} keys, not {key_type}")
    return Target(view.space, version, view.dims, view.metric, view.key_type)


@contextmanager
def opened(store: ehub.Hub, target: Target, progress: Progress) -> Iterator[ehub.Version]:
    """Where the rows go, made if it is missing, and deleted again if nothing comes to be in it."""
    undo: Callable[[], None] | None = None
    if target.version is None:
        if target.name not in store:
            store.create_space(
                target.name, target.dims, metric=target.metric, key_type=target.key_type
            )
            undo = partial(store.delete_space, target.name)
        items: ehub.Version = store.get_space(target.name)
    else:
        space = store.get_space(target.name)
        if target.version not in (*space.versions(), *space.aliases()):
            space.create_version(
                target.version, dims=target.dims, metric=target.metric, key_type=target.key_type
            )
            undo = partial(space.delete_version, target.version)
        items = space.version(target.version)
    try:
        yield items
    except BaseException:
        if undo is not None and not progress.done:
            with suppress(ehub.EhubError):
                undo()
        raise


def copy(
    todo: Iterable[Block],
    space: ehub.Version,
    progress: Progress,
    resume: bool,
    bar: Any,
    stop: Callable[[], bool],
) -> bool:
    """Store the rows of all files, batch by batch; False: told to stop before the end."""
    rows_before = len(space)
    try:
        for block in todo:
            if stop():
                return False
            if resume and is_stored(space, block):
                progress.skipped += len(block.vectors)
            else:
                write(space, block)
                progress.stored += len(block.vectors)
                progress.keys_added = len(space) - rows_before
            bar.update(len(block.vectors))
    except (ehub.EhubError, InputError, OSError) as error:
        rows = f"{progress.done:,} rows are stored, whole batches; to go on: --resume"
        raise Failure(str(error), rows if progress.done else "") from error
    return True


def write(space: ehub.Version, block: Block) -> None:
    """Store a block as one batch; an error then says where the block lies in the file."""
    try:
        space.multiset(block.keys, block.vectors)
    except (ehub.InvalidKeyError, ehub.InvalidVectorError) as error:
        last = block.start + len(block.vectors) - 1
        raise InputError(f"{block.path}, rows {block.start} to {last}: {error}") from error


@dataclass(frozen=True)
class Block:
    """Consecutive rows of a file, with keys as the space has them."""

    path: Path
    start: int
    keys: Keys
    vectors: Vectors


def blocks(plan: Plan, key_type: KeyType, batch_rows: int) -> Iterator[Block]:
    """The rows of all files."""
    first_row = 0
    for path in plan.files:
        start = 0
        with open_source(path, plan.selection) as source:
            for batch in source.batches(batch_rows):
                keys = batch.keys
                if keys is None:
                    number = first_row + start
                    keys = np.arange(number, number + len(batch), dtype=np.int64)
                yield Block(path, start, convert_keys(keys, key_type, str(path)), batch.vectors)
                start += len(batch)
        first_row += start


def is_stored(space: ehub.Version, block: Block) -> bool:
    """Whether the space holds these keys with exactly these vectors."""
    stored, found = space.multiget(block.keys, default=None)
    same = np.array_equal(np.asarray(stored).view(np.uint32), block.vectors.view(np.uint32))
    return bool(np.all(found)) and same


@contextmanager
def deferred_interrupt() -> Iterator[Callable[[], bool]]:
    """Make Ctrl-C a wish that is asked for between batches; a second one interrupts at once."""
    wished = threading.Event()

    def wish(signal_number: int, frame: object) -> None:
        if wished.is_set():
            raise KeyboardInterrupt
        wished.set()
        os.write(sys.stderr.fileno(), b"\nstopping after this batch; Ctrl-C again: at once\n")

    if threading.current_thread() is not threading.main_thread():
        yield wished.is_set
        return
    previous = signal.signal(signal.SIGINT, wish)
    try:
        yield wished.is_set
    finally:
        signal.signal(signal.SIGINT, previous)


def report(
    plan: Plan, space: str, progress: Progress, seconds: float, *, as_json: bool, complete: bool
) -> None:
    """Say what was stored, and how to go on if it is not all."""
    if as_json:
        output.print_json(
            {
                "space": space,
                "rows_stored": progress.stored,
                "rows_skipped": progress.skipped,
                "rows_replaced": progress.replaced,
                "keys_added": progress.keys_added,
                "seconds": round(seconds, 6),
                "complete": complete,
            }
        )
    if not complete:
        total = "" if plan.rows is None else f" of {plan.rows:,}"
        raise Interrupted(
            f"interrupted; {progress.done:,}{total} rows are stored in space {space!r}, whole "
            "batches; to go on, run the same command with --resume"
        )
    if not as_json:
        speed = progress.done / seconds
        size = output.bytes_text(speed * plan.dims * 4)
        skipped = f" ({progress.skipped:,} more were there)" if progress.skipped else ""
        replaced = (
            f" ({progress.keys_added:,} new keys; {progress.replaced:,} rows in place of others "
            "with the same key)"
        )
        output.say(
            f"stored {progress.stored:,} rows in space {space!r}"
            f"{replaced if progress.replaced else ''}{skipped}: "
            f"{seconds:.2f} s, {speed:,.0f} rows/s, {size}/s"
        )
