"""Parquet files: a column of keys, and vectors as a column of lists or as a column per number.

Read by row groups, written by batches: memory holds a batch and a row group.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ehub.formats.source import (
    VECTOR_NAMES,
    Batch,
    InputError,
    KeyType,
    Selection,
    Source,
    Vectors,
    as_keys,
    as_vectors,
    choose,
    choose_keys,
)


def import_pyarrow() -> Any:
    """The pyarrow package, which is optional."""
    try:
        import pyarrow as pa
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("Parquet files need pyarrow: pip install 'ehub[arrow]'") from error
    return pa


class ParquetSource(Source):
    """An open Parquet file."""

    def __init__(self, path: Path, selection: Selection) -> None:
        super().__init__(path)
        pa = import_pyarrow()
        self.pa = pa
        self.file = pa.parquet.ParquetFile(path)
        try:
            self.take_columns(selection)
        except BaseException:
            self.file.close()
            raise

    def take_columns(self, selection: Selection) -> None:
        """Find the keys and the vectors, and what the file says about them."""
        schema = self.file.schema_arrow
        self.rows = self.file.metadata.num_rows
        self.take_keys(schema, selection)
        what = f"{self.path}: column"
        names = self.find_vectors(schema, selection.vectors)
        self.columns = [str(choose(name, schema.names, (), what)) for name in names]
        kinds = [schema.field(name).type for name in self.columns]
        self.listed = self.is_list(kinds[0])
        if self.listed and len(kinds) > 1:
            raise InputError(f"{self.path}: {self.columns[0]!r:.100} holds lists: name it alone")
        if self.listed:
            self.dims = self.list_dims(kinds[0])
            self.vectors_from = f"column {self.columns[0]!r}"
        else:
            self.dims = len(self.columns)
            self.vectors_from = f"{self.dims} columns"
        for name, kind in zip(self.columns, kinds, strict=True):
            self.require_numbers(name, kind)
        self.metric = metric_of(schema, self.path)

    def take_keys(self, schema: Any, selection: Selection) -> None:
        """Find the column of keys: named, or with a usual name."""
        self.key = choose_keys(selection, schema.names, f"{self.path}: column")
        if self.key is None:
            others = [field.name for field in schema if self.is_key(field.type)]
            if others:
                self.keys_from += f" (--keys would take one of: {', '.join(others)})"
            return
        kind = schema.field(self.key).type
        if not self.is_key(kind):
            raise InputError(
                f"{self.path}: column {self.key!r:.100} is {kind}; a key is text or an integer"
            )
        self.key_type = "int" if self.pa.types.is_integer(kind) else "str"
        self.keys_from = f"column {self.key!r}"

    def require_numbers(self, name: str, kind: Any) -> None:
        """Refuse a column of vectors, or of one of several numbers of each, that holds others."""
        number = kind.value_type if self.listed and self.is_list(kind) else kind
        if not (self.pa.types.is_integer(number) or self.pa.types.is_floating(number)):
            expected = "lists of numbers" if self.listed else "numbers"
            raise InputError(f"{self.path}: column {name!r:.100} is {kind}; expected {expected}")

    def find_vectors(self, schema: Any, named: str | None) -> list[str]:
        """The column of vectors, or the columns of their numbers."""
        if named is not None:
            return named.split(",")
        lists = [field.name for field in schema if self.is_list(field.type)]
        usual = choose(None, lists, VECTOR_NAMES, f"{self.path}: column")
        if usual is not None or len(lists) == 1:
            return [usual or lists[0]]
        if lists:
            raise InputError(f"{self.path}: say --vectors, one of: {', '.join(lists)}")
        types = self.pa.types
        numbers = [field.name for field in schema if types.is_floating(field.type)]
        if not numbers:
            raise InputError(f"{self.path}: no column of lists, and none of floating-point numbers")
        return numbers

    def is_key(self, kind: Any) -> bool:
        """Whether a column of this type can be keys."""
        types = self.pa.types
        text = kind.value_type if types.is_dictionary(kind) else kind
        return bool(
            types.is_integer(kind)
            or types.is_string(text)
            or types.is_large_string(text)
            or types.is_string_view(text)
        )

    def is_list(self, kind: Any) -> bool:
        """Whether a column of this type can be vectors."""
        types = self.pa.types
        lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
        return bool(lists)

    def list_dims(self, kind: Any) -> int:
        """How long the lists are: by their type, or the first of them."""
        if self.pa.types.is_fixed_size_list(kind):
            return int(kind.list_size)
        for batch in self.file.iter_batches(batch_size=1, columns=self.columns):
            return len(batch.column(0)[0].as_py() or ())
        return 0

    def read(self, batch_rows: int) -> Iterator[Batch]:
        """All rows in order."""
        columns = [*self.columns, *([self.key] if self.key is not None else [])]
        start = 0
        for batch in self.file.iter_batches(batch_size=batch_rows, columns=columns):
            keys = None
            if self.key is not None:
                column = self.without_nulls(batch, self.key, start)
                keys = as_keys(key_values(column, self.key_type), f"{self.path}: the keys")
            yield Batch(keys, self.vectors_of(batch, start))
            start += batch.num_rows

    def vectors_of(self, batch: Any, start: int) -> Vectors:
        """The vectors of a batch that begins at row `start`."""
        what = f"{self.path}: the vectors"
        columns = [self.without_nulls(batch, name, start) for name in self.columns]
        if not self.listed:
            arrays = [as_vectors(to_numpy(column), what) for column in columns]
            return np.stack(arrays, axis=1)
        [column] = columns
        lengths = np.asarray(self.pa.compute.list_value_length(column))
        wrong = np.flatnonzero(lengths != self.dims)
        if wrong.size:
            raise InputError(
                f"{self.path}: row {start + wrong[0]} has {lengths[wrong[0]]} dims, "
                f"the first has {self.dims}"
            )
        values = column.flatten()
        if values.null_count:
            raise InputError(f"{self.path}: a number is missing in rows {start} and after")
        return as_vectors(to_numpy(values), what).reshape(-1, self.dims)

    def without_nulls(self, batch: Any, name: str, start: int) -> Any:
        """A column of a batch, every entry of which is there."""
        column = batch.column(name)
        if column.null_count:
            row = start + int(np.flatnonzero(np.asarray(column.is_null()))[0])
            raise InputError(f"{self.path}: column {name!r:.100} has no value in row {row}")
        return column

    def __exit__(self, *exc_info: object) -> None:
        """Close the file."""
        self.file.close()


def key_values(column: Any, key_type: KeyType) -> Any:
    """A column of keys, as NumPy's integers or a list of text."""
    return to_numpy(column) if key_type == "int" else column.to_pylist()


def metric_of(schema: Any, path: Path) -> str | None:
    """The metric that an export of ours notes in the schema's metadata."""
    about = (schema.metadata or {}).get(b"ehub")
    if about is None:
        return None
    try:
        metric = json.loads(about)["metric"]
    except (ValueError, LookupError, TypeError) as error:
        raise InputError(f"{path}: its metadata 'ehub' is not what an export writes") from error
    return str(metric)


def to_numpy(column: Any) -> Any:
    """A column without nulls as a NumPy array, copied only if it must be."""
    return column.to_numpy(zero_copy_only=False)
