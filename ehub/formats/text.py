"""Text files: tables of embeddings in CSV or TSV, and files of keys.

A table has one row per line: a key, then the vector, a number per column. Quoting is CSV's. The
first line may be a header: see `looks_like_header`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import chain, islice
from operator import itemgetter
from pathlib import Path

import numpy as np

from ehub.formats.source import (
    KEY_NAMES,
    Batch,
    InputError,
    Selection,
    Source,
    Vectors,
)

# A longer field than csv reads by default: a vector written as one field is refused by us, with
# the line's number, rather than by csv.
csv.field_size_limit(1 << 24)


class TextColumn:
    """A key per row, read from a text file."""

    def __init__(self, keys: Iterator[str], rows: int) -> None:
        self.keys = keys
        self.rows = rows

    def read(self, start: int, stop: int) -> list[str]:
        """The next keys."""
        return list(islice(self.keys, stop - start))


@contextmanager
def key_file(name: str) -> Iterator[TextColumn]:
    """Keys from a text file, one per line, or from a column of a table: `table.csv:column`."""
    table, _, column = name.rpartition(":")
    if not table.endswith((".csv", ".tsv")):
        table, column = name, "0"
    path = Path(table)
    if not path.exists():
        raise InputError(f"{path}: no such file of keys")
    rows = sum(1 for _ in keys_of(path, column))
    with closing(keys_of(path, column)) as keys:
        yield TextColumn(keys, rows)


def keys_of(path: Path, column: str) -> Generator[str, None, None]:
    """The keys in a text file of either kind."""
    try:
        if path.suffix in (".csv", ".tsv"):
            yield from table_column(path, column)
        else:
            yield from lines_of(path)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not text: {error}") from error


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a text file."""
    with path.open(encoding="utf-8-sig") as file:
        for line in file:
            yield line.removesuffix("\n")


def table_column(path: Path, column: str) -> Iterator[str]:
    """One column of a table, by its name in the header, or by its number."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter_of(path))
        first = next(reader, [])
        index = column_index(first, column, path)
        if not column.isdigit():
            first = []  # it was the header
        for row in chain([first], reader):
            if len(row) > index:
                yield row[index]
            elif row:
                raise InputError(f"{path}, line {reader.line_num}: no field {index}")


def delimiter_of(path: Path) -> str:
    """What stands between the fields of a line."""
    return "\t" if path.suffix == ".tsv" else ","


def column_index(header: list[str], column: str, path: Path) -> int:
    """The index of a column that is given by its name in the header, or by digits: its index."""
    if column.isdigit() and int(column) < len(header):
        return int(column)
    if column in header:
        return header.index(column)
    raise InputError(f"{path}: no column {column!r}; the first line has: {', '.join(header[:20])}")


class TableSource(Source):
    """A table of embeddings in a text file, parsed as it is read."""

    def __init__(self, path: Path, selection: Selection) -> None:
        super().__init__(path)
        self.file = path.open(encoding="utf-8-sig", newline="")
        self.reader = csv.reader(self.file, delimiter=delimiter_of(path))
        self.key_type = "str"
        try:
            self.take_columns(selection)
        except BaseException:
            self.file.close()
            raise

    def take_columns(self, selection: Selection) -> None:
        """Find the header, the column of keys and those of numbers."""
        try:
            first = next(self.reader, [])
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{self.path}: not a table: {error}") from error
        if not first:
            raise InputError(f"{self.path}: the first line is empty")
        usual = next((name for name in KEY_NAMES if name in first), "0")
        self.key_index = column_index(first, selection.keys or usual, self.path)
        if selection.vectors is None:
            self.columns = [i for i in range(len(first)) if i != self.key_index]
        else:
            names = selection.vectors.split(",")
            self.columns = [column_index(first, name, self.path) for name in names]
        header = selection.header
        if header is None:
            header = looks_like_header(first, self.key_index, self.columns)
        self.first = None if header else first
        self.first_line = self.reader.line_num
        self.width = len(first)
        self.dims = len(self.columns)
        if not self.dims:
            raise InputError(f"{self.path}: no columns of numbers beside the keys")
        self.fields_of = fields_getter(self.columns)
        name = first[self.key_index] if header else str(self.key_index)
        self.keys_from = f"column {name!r}"
        self.vectors_from = f"{self.dims} columns"

    def lines(self) -> Iterator[tuple[int, list[str]]]:
        """All rows with the number of their line."""
        if self.first is not None:
            yield self.first_line, self.first
        try:
            for row in self.reader:
                if row:
                    yield self.reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{self.path}, line {self.reader.line_num + 1}: {error}") from error

    def batches(self, batch_rows: int) -> Iterator[Batch]:
        """All rows in order."""
        lines = self.lines()
        while True:
            keys: list[str] = []
            vectors = np.empty((batch_rows, self.dims), np.float32)
            # A number beyond float32 becomes an infinity, which the hub refuses.
            with np.errstate(over="ignore"):
                for number, row in islice(lines, batch_rows):
                    vectors[len(keys)] = self.parse(number, row)
                    keys.append(row[self.key_index])
            if not keys:
                return
            yield Batch(keys, vectors[: len(keys)])

    def parse(self, number: int, row: list[str]) -> Vectors:
        """The numbers of a line, of which there are as many as in the first."""
        if len(row) != self.width:
            raise InputError(
                f"{self.path}, line {number}: {len(row)} fields, the first has {self.width}"
            )
        try:
            return np.array(self.fields_of(row), np.float32)
        except ValueError as error:
            raise InputError(f"{self.path}, line {number}: {error}") from error

    def __exit__(self, *exc_info: object) -> None:
        """Close the file."""
        self.file.close()


def fields_getter(columns: list[int]) -> Callable[[list[str]], Sequence[str]]:
    """What takes some columns, at least one, out of a row; a slice is quicker than single ones."""
    start, stop = min(columns), max(columns) + 1
    if columns == list(range(start, stop)):
        return itemgetter(slice(start, stop))
    return itemgetter(*columns)  # more than one, so a tuple


def looks_like_header(first: list[str], key_index: int, columns: list[int]) -> bool:
    """Whether a first line names columns: none of its fields is a number, or they count columns."""
    fields = [first[i] for i in columns]
    if not any(is_number(field) for field in fields):
        return True
    counted = fields in (
        [str(i) for i in range(len(fields))],
        [str(i + 1) for i in range(len(fields))],
    )
    return first[key_index] in ("", *KEY_NAMES) or (counted and len(fields) > 2)


def is_number(field: str) -> bool:
    """Whether a field can be part of a vector."""
    try:
        float(field)
    except ValueError:
        return False
    return True
