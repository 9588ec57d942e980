"""Text files: tables of embeddings in CSV or TSV, and files of keys.

A table has one row per line: a key in one column, and in each other one a number of the vector.
Quoting is CSV's. Which column has the keys, and whether the first line is a header, the user says,
or the first lines show it; where they could mean either, the table is refused with the question.
"""

from __future__ import annotations

import csv
import math
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
    is_int64,
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
    raise InputError(
        f"{path}: no column {column!r:.100}; the first line has: {', '.join(header[:20]):.500}"
    )


class TableSource(Source):
    """A table of embeddings in a text file, parsed as it is read."""

    def __init__(self, path: Path, selection: Selection) -> None:
        super().__init__(path)
        self.file = path.open(encoding="utf-8-sig", newline="")
        self.reader = csv.reader(self.file, delimiter=delimiter_of(path))
        try:
            self.take_columns(selection)
        except BaseException:
            self.file.close()
            raise

    def take_columns(self, selection: Selection) -> None:
        """Find the header, the column of keys and those of numbers."""
        lines = self.read_lines()
        beginning = list(islice(lines, 1))
        if not beginning:
            raise InputError(f"{self.path}: the file is empty")
        [(_, first)] = beginning
        self.width = len(first)
        chosen = None
        if selection.vectors is not None:
            names = selection.vectors.split(",")
            chosen = [column_index(first, name, self.path) for name in names]
        self.header = self.has_header(first, selection, chosen)
        if self.header:
            beginning = list(islice(lines, 1))
        self.lines = chain(beginning, lines)
        row = beginning[0][1] if beginning else []
        self.take_keys(self.find_keys(first, row, selection, chosen), first)
        self.columns = chosen or [i for i in range(self.width) if i != self.key_index]
        self.dims = len(self.columns)
        if not self.dims:
            raise InputError(f"{self.path}: no columns of numbers beside the keys")
        self.fields_of = fields_getter(self.columns)
        self.vectors_from = f"{self.dims} columns"

    def has_header(self, first: list[str], selection: Selection, chosen: list[int] | None) -> bool:
        """Whether the first line names columns, which it does if the user names one of them."""
        if selection.header is not None:
            return selection.header
        said = [*(selection.vectors or "0").split(","), selection.keys or "0"]
        if not all(name.isdigit() for name in said):
            return True
        key = None if selection.no_keys else int(selection.keys or "0")
        others = chosen or [i for i in range(self.width) if i != key] or [0]
        key_field = None if key is None or key >= self.width else first[key]
        header = looks_like_header(key_field, [first[i] for i in others])
        if header is None:
            raise InputError(
                f"{self.path}: the first line may be a header or a row: say --header or --no-header"
            )
        return header

    def find_keys(
        self, first: list[str], row: list[str], selection: Selection, chosen: list[int] | None
    ) -> int | None:
        """The column of keys: named, with a usual name, or the first if it holds no numbers."""
        names = first if self.header else []
        if selection.no_keys:
            return None
        named = selection.keys or next((name for name in KEY_NAMES if name in names), None)
        if named is not None:
            return column_index(first, named, self.path)
        if names[:1] == [""] or not row or not is_number(row[0]):
            return 0
        if not is_int64(row[0]) or 0 in (chosen or []):
            return None
        raise InputError(
            f"{self.path}: the first column holds integers: "
            "say --keys 0 if they are the keys, --no-keys if they are not"
        )

    def take_keys(self, index: int | None, first: list[str]) -> None:
        """Set the column of keys."""
        self.key_index = index
        if index is not None:
            self.key_type = "str"
            self.keys_from = f"column {first[index] if self.header else str(index)!r}"

    @property
    def found(self) -> str:
        """For people: what the file was taken for."""
        return f"{'first line taken as header; ' if self.header else ''}{super().found}"

    def read_lines(self) -> Iterator[tuple[int, list[str]]]:
        """All lines that are not empty, with their numbers."""
        try:
            for row in self.reader:
                if row:
                    yield self.reader.line_num, row
        except (csv.Error, UnicodeDecodeError) as error:
            number = self.reader.line_num + 1
            raise InputError(f"{self.path}, line {number}: not a table: {error}") from error

    def read(self, batch_rows: int) -> Iterator[Batch]:
        """All rows in order."""
        while True:
            keys: list[str] = []
            count = 0
            vectors = np.empty((batch_rows, self.dims), np.float32)
            # A number beyond float32 becomes an infinity, which the hub refuses.
            with np.errstate(over="ignore"):
                for number, row in islice(self.lines, batch_rows):
                    vectors[count] = self.parse(number, row)
                    if self.key_index is not None:
                        keys.append(row[self.key_index])
                    count += 1
            if not count:
                return
            yield Batch(None if self.key_index is None else keys, vectors[:count])

    def parse(self, number: int, row: list[str]) -> Vectors:
        """The numbers of a line, of which there are as many as in the first."""
        if len(row) != self.width:
            raise InputError(
                f"{self.path}, line {number}: {len(row)} fields, the first has {self.width}"
            )
        try:
            return np.array(self.fields_of(row), np.float32)
        except ValueError as error:
            raise InputError(
                f"{self.path}, line {number}: {error} (--vectors names the columns of numbers)"
            ) from error

    def __exit__(self, *exc_info: object) -> None:
        """Close the file."""
        self.file.close()


def fields_getter(columns: list[int]) -> Callable[[list[str]], Sequence[str]]:
    """What takes some columns, at least one, out of a row; a slice is quicker than single ones."""
    start, stop = min(columns), max(columns) + 1
    if columns == list(range(start, stop)):
        return itemgetter(slice(start, stop))
    return itemgetter(*columns)  # more than one, so a tuple


def looks_like_header(key: str | None, others: list[str]) -> bool | None:
    """Whether a first line, a key's field and others, names columns; None: who knows.

    The fields of a header are no numbers, unless they count columns: 0, 1, 2 ...
    """
    if not any(is_number(field) for field in others):
        return True
    if others != [str(i) for i in range(len(others))]:
        return False
    if key == "":
        return True  # no row has an empty key
    return None if len(others) > 2 or key in KEY_NAMES else False


def is_number(field: str) -> bool:
    """Whether a field can be part of a vector."""
    try:
        return math.isfinite(float(field))
    except ValueError:
        return False
