"""The command `bench`: this library and its peers on the user's own data, in turn, as ratios."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ehub.cli import output
from ehub.cli.app import Failure, Interrupted, app, find_space, open_to_read
from ehub.cli.files import require_writable
from ehub.types import Metric

if TYPE_CHECKING:
    from ehub.bench.contenders import Contender
    from ehub.bench.data import Trial
    from ehub.bench.measure import Run

K_MAX = 1000

Data = Annotated[
    Path | None,
    typer.Argument(
        metavar="DATA",
        exists=True,
        help="An HDF5 file of ann-benchmarks' layout; with --space the directory of a hub.",
    ),
]
Contenders = Annotated[
    str | None, typer.Option(help="Names, with commas. Default: all that are installed.")
]
Plots = Annotated[
    list[Path] | None,
    typer.Option("--plot", help="Draw recall against queries/s: x.svg or x.png; may be repeated."),
]


@app.command()
def bench(
    data: Data = None,
    random: Annotated[
        str | None, typer.Option(metavar="N,DIMS", help="Random vectors instead of a file.")
    ] = None,
    space: Annotated[str | None, typer.Option(help="A space of the hub DATA, copied.")] = None,
    metric: Annotated[Metric, typer.Option(help="Of --random.")] = "l2",
    k: Annotated[int, typer.Option("-k", "--k", min=1, max=K_MAX, help="How many neighbors.")] = 10,
    queries: Annotated[int, typer.Option(min=1, help="At most so many.")] = 2000,
    rounds: Annotated[int, typer.Option(min=1, help="Figures are medians of them.")] = 3,
    ef: Annotated[
        str | None,
        typer.Option(
            help="Settings to sweep, as 10,20,40. Default: from k on, until nothing is missed."
        ),
    ] = None,
    contenders: Contenders = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of builds and batches. Default: all cores.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all to a file.")] = None,
    plots: Plots = None,
    keep: Annotated[
        Path | None, typer.Option(help="Keep hub and indexes in this new directory.")
    ] = None,
) -> None:
    """Measure recall, speed, memory and build of this library and its peers on your data.

    Peers are those that are installed: hnswlib, faiss (HNSW over float32 and 8 bits), usearch
    (float32 and bfloat16), pyglass, vsag, Scalable Vector Search; pip install 'ehub[bench]' gets
    the first three. Each builds its index in a process of its own, which is timed and whose peak
    of memory is taken; then all are asked in turn in one process: one query a call in one thread,
    and all queries in one call on all cores. Only ratios within a run carry over to another
    machine, and only if nothing else runs meanwhile.

    Recall is tie-aware, against the neighbors in the file if a sample of them is right, else
    against exact search. "x at 0.95" is how many times as many queries per second as hnswlib
    answers at recall 0.95, interpolated between settings; with >= even the smallest setting had a
    higher recall. Index and peak are MB: the index of ehub is what it takes beyond the stored
    vectors, those of others are their files, most of which hold the vectors again; the peak is
    that of building, beyond the rows.

    Everything is written to a temporary directory in the current one. Ctrl-C keeps what has been
    measured by then.
    """
    from ehub.bench.data import prepared
    from ehub.bench.measure import EFS, RECALL_ENOUGH, TARGETS, Plan, run

    check_files(json_file, plots or [], keep)
    kinds = chosen_contenders(contenders)
    usable = len(os.sched_getaffinity(0))
    efs = sorted({max(k, one) for one in (EFS if ef is None else numbers(ef, "--ef"))})
    enough = RECALL_ENOUGH if ef is None else None
    targets = TARGETS if ef is None else ()
    plan = Plan(k, tuple(efs), rounds, min(threads or usable, usable), enough, targets)
    trial = load(data, random, space, metric, queries)
    with place(keep) as directory:
        output.note(f"{trial.name}: {len(trial.rows):,} x {trial.rows.shape[1]}, {trial.metric}")
        trial = prepared(trial, k, directory)
        tell_of(trial)
        total = plan.steps(len(kinds))
        with output.progress_bar(total, "benchmark", unit=" steps") as bar:
            found = run(trial, kinds, plan, directory, bar)
    show(found)
    write_files(found, json_file, plots or [])
    if not found.complete:
        raise Interrupted("interrupted; what had been measured by then is above")
    if all(outcome.failure for outcome in found.outcomes):
        raise Failure("no contender could be measured")


def tell_of(trial: Trial) -> None:
    """What of the data is left out, and what is asked."""
    if trial.rows_left_out or trial.queries_left_out:
        output.note(
            f"left out, because a zero vector has no direction: {trial.rows_left_out:,} rows, "
            f"{trial.queries_left_out:,} queries"
        )
    output.note(f"{len(trial.queries):,} queries, true neighbors {trial.truth}")


def check_files(json_file: Path | None, plots: Sequence[Path], keep: Path | None) -> None:
    """Refuse before the work what could not be written after it."""
    from ehub.bench.plot import SUFFIXES, can_plot

    for file in plots:
        if file.suffix not in SUFFIXES:
            raise typer.BadParameter(f"--plot {file}: a name must end in {' or '.join(SUFFIXES)}")
    if plots and not can_plot():
        raise Failure("--plot needs matplotlib", "pip install 'ehub[bench]'")
    for file in (*plots, *([json_file] if json_file else [])):
        require_writable(file)
    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise typer.BadParameter(f"--keep {keep} exists: say a new directory")


def chosen_contenders(names: str | None) -> list[type[Contender]]:
    """The contenders that take part; says which ones cannot."""
    from ehub.bench.contenders import CONTENDERS
    from ehub.bench.report import missing

    if names is None:
        kinds = [kind for kind in CONTENDERS.values() if kind.installed()]
        lacking = missing(list(CONTENDERS.values()))
        if lacking:
            texts = [f"{name} ({package})" for name, package in lacking.items()]
            output.note(f"not installed, left out: {', '.join(texts)}")
        return kinds
    wanted = list(dict.fromkeys(name.strip() for name in names.split(",")))
    unknown = [name for name in wanted if name not in CONTENDERS]
    if unknown:
        known = ", ".join(CONTENDERS)
        raise typer.BadParameter(f"--contenders: {unknown[0]!r:.100} is not one of: {known}")
    kinds = [CONTENDERS[name] for name in wanted]
    for name, package in missing(kinds).items():
        raise Failure(f"contender {name!r} is not installed", f"pip install {package}")
    return kinds


def numbers(text: str, option: str, count: int | None = None) -> list[int]:
    """Positive integers, with commas."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or min(values) < 1 or count not in (None, len(values)):
        raise typer.BadParameter(f"{option} {text!r:.100}: expected positive numbers such as 10,20")
    return values


def load(
    data: Path | None, random: str | None, space: str | None, metric: Metric, queries: int
) -> Trial:
    """The rows and queries that the user means."""
    from ehub.bench.data import from_hdf5, from_random, from_space

    if (data is None) == (random is None):
        raise typer.BadParameter("say either a file, or a hub and --space, or --random N,DIMS")
    if random is not None:
        if space is not None:
            raise typer.BadParameter("--space is one of a hub: say its directory, not --random")
        count, dims = numbers(random, "--random", 2)
        return from_random(count, dims, metric, queries)
    assert data is not None
    if space is None:
        if data.is_dir():
            raise typer.BadParameter(f"{data} is a directory: say --space, if it is a hub")
        return from_hdf5(data, queries)
    with open_to_read(data) as hub:
        return from_space(find_space(hub, space), queries)


@contextmanager
def place(keep: Path | None) -> Iterator[Path]:
    """Where hub and indexes go: on the current disk, which is the one that counts."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="ehub-bench-", dir=Path.cwd()) as temporary:
        yield Path(temporary)


def show(found: Run) -> None:
    """Print the tables, and what went wrong."""
    from ehub.bench import report

    for columns, rows in (
        (report.POINT_COLUMNS, report.point_rows(found)),
        (report.SUMMARY_COLUMNS, report.summary_rows(found)),
    ):
        lines = list(rows)
        if lines:
            output.print_table(columns, lines)
            output.say("")
    for outcome in found.outcomes:
        if outcome.failure:
            output.note(f"{outcome.name} failed: {outcome.failure}")


def write_files(found: Run, json_file: Path | None, plots: list[Path]) -> None:
    """Write what was asked for."""
    from ehub.bench.plot import plot
    from ehub.bench.report import document

    if json_file is not None:
        json_file.write_text(json.dumps(document(found), indent=1) + "\n")
    if plots:
        plot(found, plots)
