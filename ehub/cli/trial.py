"""The command that shows all of it at work on this machine: demo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ehub.cli import output
from ehub.cli.app import Json, app

if TYPE_CHECKING:
    from ehub.demo import Report


@app.command()
def demo(
    rows: Annotated[int, typer.Option(min=100, help="At most so many embeddings.")] = 40_000,
    keep: Annotated[
        Path | None,
        typer.Option("--keep", "--directory", help="Keep the hub, in this new directory."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Store and search real embeddings, and check every answer.

    Needs no network and no data: the texts are the functions and classes of Python's own library.
    Exits with 1 if an answer is not the one that NumPy computes.
    """
    from ehub.demo import run_demo

    if keep is not None and keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise typer.BadParameter(f"{keep} exists: say a new directory")
    report = run_demo(
        rows=rows,
        directory=keep,
        say=output.note if as_json else output.say,
        progress=lambda total: output.progress_bar(total, "storing"),
    )
    if as_json:
        output.print_json(measurements(report))
    else:
        output.print_fields(summary(report))
    for wrong in report.wrong:
        output.note(f"error: {wrong}")
    if report.wrong:
        raise typer.Exit(1)


def percentiles(seconds: list[float]) -> tuple[float, float]:
    """The median and the 99th percentile."""
    p50, p99 = np.percentile(seconds, (50, 99))
    return float(p50), float(p99)


def summary(report: Report) -> dict[str, object]:
    """What was measured, for people."""
    rows_per_second = report.rows / report.store_seconds
    search_p50, search_p99 = percentiles(report.search_seconds)
    get_p50, get_p99 = percentiles(report.get_seconds)
    size = output.bytes_text(rows_per_second * report.dims * 4)
    ratio = report.bytes_on_disk / report.vector_bytes
    return {
        "prepare": f"read in {report.read_seconds:.1f} s, embedded in {report.embed_seconds:.1f} s",
        "store": f"{rows_per_second:,.0f} rows/s, {size}/s",
        "open": f"{report.open_seconds * 1e3:.1f} ms",
        "search": f"p50 {search_p50 * 1e3:.2f} ms, p99 {search_p99 * 1e3:.2f} ms",
        "recall@10": f"{report.recall:.4f}",
        "get": f"p50 {get_p50 * 1e6:.1f} us, p99 {get_p99 * 1e6:.1f} us",
        "on disk": f"{output.bytes_text(report.bytes_on_disk)}, {ratio:.2f} x the float32 alone",
        "checks": "all right" if not report.wrong else f"{len(report.wrong)} wrong",
    }


def measurements(report: Report) -> dict[str, Any]:
    """What was measured, for machines."""
    search_p50, search_p99 = percentiles(report.search_seconds)
    get_p50, get_p99 = percentiles(report.get_seconds)
    return {
        "rows": report.rows,
        "dims": report.dims,
        "rows_per_second": report.rows / report.store_seconds,
        "bytes_per_second": report.vector_bytes / report.store_seconds,
        "open_seconds": report.open_seconds,
        "recall_at_10": report.recall,
        "search_seconds_p50": search_p50,
        "search_seconds_p99": search_p99,
        "get_seconds_p50": get_p50,
        "get_seconds_p99": get_p99,
        "bytes_on_disk": report.bytes_on_disk,
        "vector_bytes": report.vector_bytes,
        "wrong": report.wrong,
    }
