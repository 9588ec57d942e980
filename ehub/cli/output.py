"""What a command prints: tables for people on a terminal, plain lines or JSON for programs.

Results go to standard output, everything else (progress, errors) to standard error. On a terminal
a table is drawn by rich; elsewhere it is one line per row, fields separated by tabs, without a
header, with control characters escaped: stable, and safe to cut up.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import typer
from numpy.typing import NDArray

from ehub._progress import is_terminal


def on_terminal() -> bool:
    """Whether a person reads standard output."""
    return is_terminal(sys.stdout)


def say(text: str) -> None:
    """Print one line of a result."""
    typer.echo(text)


def note(text: str) -> None:
    """Print one line that is not part of the result."""
    typer.echo(text, err=True)


def print_json(document: Any) -> None:
    """Print the result for a machine: one JSON document."""
    indent = 2 if on_terminal() else None
    typer.echo(json.dumps(document, ensure_ascii=False, indent=indent))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows; columns whose name ends in a space are aligned to the right."""
    if not on_terminal():
        for row in rows:
            typer.echo("\t".join(plain(cell) for cell in row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False, show_header=any(columns))
    for column in columns:
        table.add_column(column.strip(), justify="right" if column.endswith(" ") else "left")
    for row in rows:
        table.add_row(*(Text(pretty(cell)) for cell in row))
    Console().print(table)


def print_fields(fields: Mapping[str, object]) -> None:
    """Print names and values, one pair per line."""
    print_table(["", ""], fields.items())


def plain(cell: object) -> str:
    """A cell for a program: one field of one line."""
    text = f"{cell:.7g}" if isinstance(cell, float) else str(cell)
    return "".join(escaped(char) for char in text)


def escaped(char: str) -> str:
    """A character that cannot end a field or a line, or move a cursor."""
    if char == "\\":
        return "\\\\"
    return char if char.isprintable() else char.encode("unicode_escape").decode()


def pretty(cell: object) -> str:
    """A cell for a person."""
    if isinstance(cell, int) and not isinstance(cell, bool):
        return f"{cell:,}"
    return plain(cell)


def bytes_text(count: float) -> str:
    """A number of bytes for people: `12.3 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def numbers(vector: NDArray[np.float32]) -> list[float]:
    """A vector for JSON: the shortest decimals that give the same float32 back."""
    return [float(str(number)) for number in vector]


def progress_bar(total: int | None, description: str, unit: str = " rows") -> Any:
    """A progress bar on standard error, of rows if not told otherwise; only on a terminal."""
    from tqdm import tqdm

    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        unit_scale=True,
        leave=False,
        disable=not is_terminal(sys.stderr),
    )
