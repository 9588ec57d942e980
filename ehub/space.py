"""A space: a named collection of embeddings, by key and by distance."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from ehub import _arrays, _arrow
from ehub._native import _store
from ehub._progress import bar
from ehub.errors import (
    DimensionError,
    InvalidArgumentError,
    InvalidKeyError,
    InvalidVectorError,
    add_note,
)
from ehub.index import IndexStats, RecallReport, measure_recall
from ehub.types import Key, SegmentStats, SpaceStats, Vectors
from ehub.view import View

if TYPE_CHECKING:
    from ehub.hub import Hub

__all__ = ["Space"]

# Errors about what was given, which say in their own words where it lies in a stream.
LOCATED = (DimensionError, InvalidArgumentError, InvalidKeyError, InvalidVectorError)

# A stream is stored in batches of so many rows, or fewer if they are long.
STREAM_BATCH_ROWS = 10_000
STREAM_BATCH_BYTES = 16 << 20


class Space(View):
    """Embeddings of one kind of thing, under unique keys.

    A space comes from `Hub.create_space()` or `Hub.get_space()`. It may be used from many threads:
    writes are atomic and take effect in one order for all, reads see whole batches. A call that
    raises has changed nothing, but for `multiset()` of a stream or a table: batches before it stay.

    It behaves as a mapping where that is clear: `items[key]`, `items[key] = vector`,
    `del items[key]`, `key in items`, `len(items)`, and iteration over keys.
    """

    __slots__ = ("_hub",)

    def __init__(self, hub: Hub, table: _store.Table) -> None:
        self._hub = hub
        self._table = table

    @property
    def hub(self) -> Hub:
        """The hub that it is in."""
        return self._hub

    def _now(self) -> _store.View:
        return self._table.view()

    # --- one row ---

    def get(self, key: Key) -> Vectors:
        """The vector of `key`, float32[dims], an array of your own."""
        return self._table.get(key)

    def set(self, key: Key, vector: Any, *, partition: str | None = None) -> None:
        """Store `vector` under `key`, in place of an older one. Durable when it returns."""
        table = self._table
        name = None if partition is None else _arrays.as_partition_name(partition)
        table.set(key, _arrays.as_vector(vector, table.dims, table.space), name)

    def delete(self, key: Key) -> None:
        """Delete the row of `key`; a NotFoundError if there is none."""
        self._table.delete(key)

    def __contains__(self, key: object) -> bool:
        try:
            return self._table.contains(key)
        except InvalidKeyError:  # what can be no key is not there
            return False

    def __len__(self) -> int:
        return self._table.row_count()

    __getitem__ = get
    __delitem__ = delete

    def __setitem__(self, key: Key, vector: Any) -> None:
        self.set(key, vector)

    # --- many rows ---

    def multiset(
        self,
        keys: Any,
        vectors: Any = None,
        *,
        partition: str | Iterable[str] | None = None,
        key_column: str = _arrow.KEY_COLUMN,
        vector_column: str = _arrow.VECTOR_COLUMN,
        progress: bool = False,
    ) -> int:
        """Store many rows, and return how many were given.

        Of a key that comes several times the last one wins. What is given may be:

        - `multiset(keys, vectors)`: a sequence of keys and float32[n, dims]. One atomic batch.
        - `multiset({key: vector, ...})`: a mapping. One atomic batch.
        - `multiset(pairs)`: any iterable of (key, vector), however long: stored in atomic batches
          of 10,000 rows (or 16 MiB).
        - `multiset(table)`: a pyarrow or polars table, or whatever exports the Arrow C interface;
          needs `ehub[arrow]`. Each record batch is one atomic batch, read in place.

        If a stream or a table fails, the batches before stay, and the error says how many rows.

        Args:
            keys: The keys, or keys and vectors in one of the other ways.
            vectors: Anything that numpy takes for an array; float32 is read in place.
            partition: The name of the partition for all rows; with keys and vectors or a mapping,
                also a name for each row.
            key_column: The name of an Arrow table's column of keys.
            vector_column: And of its vectors: lists of floats, of fixed size at best.
            progress: Show a bar if standard error is a terminal.
        """
        if vectors is not None:
            _arrays.require_order(keys)
            return self._write_one(keys, vectors, partition, progress)
        if isinstance(keys, Mapping):
            return self._write_one(list(keys), list(keys.values()), partition, progress)
        if _arrow.exports_arrow(keys):
            batches = _arrow.read_batches(keys, key_column, vector_column)
            return self._write_all(batches, partition, rows_of(keys), progress)
        if isinstance(keys, (str, bytes, np.ndarray)) or not isinstance(keys, Iterable):
            raise InvalidArgumentError(
                "multiset() needs keys and vectors, a mapping, pairs of key and vector, or a table"
            )
        return self._write_all(self._batches_of(keys), partition, rows_of(keys), progress)

    def multidelete(self, keys: Iterable[Key]) -> int:
        """Delete the rows of `keys` in one atomic batch; return how many there were."""
        return self._table.multidelete(self._pack(keys))

    def delete_all(self) -> int:
        """Delete every row in one atomic batch; return how many there were."""
        return self._table.delete_all()

    def _write_one(self, keys: Any, vectors: Any, partition: Any, progress: bool) -> int:
        packed = self._pack(keys)
        rows = _arrays.as_vectors(vectors, self.dims, self.name)
        _arrays.require_same_length(packed, rows)
        partitions = _arrays.as_partitions(partition, len(packed))
        with bar(progress, len(packed), "row", f"multiset {self.name}") as shown:
            self._table.multiset(packed, rows, *partitions)
            shown.update(len(packed))
        return len(packed)

    def _write_all(
        self, batches: Iterable[tuple[Any, Any]], partition: Any, total: int | None, progress: bool
    ) -> int:
        if not (partition is None or isinstance(partition, str)):
            raise InvalidArgumentError("a stream or a table takes one partition for all its rows")
        done = 0
        with bar(progress, total, "row", f"multiset {self.name}") as shown:
            try:
                for keys, vectors in batches:
                    count = self._write_one(keys, vectors, partition, progress=False)
                    done += count
                    shown.update(count)
            except BaseException as error:
                if done:
                    say_what_is_stored(error, done)
                raise
        return done

    def _batches_of(self, pairs: Iterable[tuple[Key, Any]]) -> Iterator[tuple[list[Key], Vectors]]:
        """Keys and vectors of a stream; the vectors' memory is used again for the next batch."""
        row_bytes = self.dims * np.dtype(np.float32).itemsize
        rows_max = max(1, min(STREAM_BATCH_ROWS, STREAM_BATCH_BYTES // row_bytes))
        vectors = np.empty((rows_max, self.dims), np.float32)
        stream = iter(pairs)
        done = 0
        while keys := _store.read_pairs(stream, done, vectors, self._vector_of_row):
            yield keys, vectors[: len(keys)]
            done += len(keys)

    def _vector_of_row(self, vector: Any, row: int) -> Vectors:
        return _arrays.as_vector(vector, self.dims, self.name, f"the vector of row {row}")

    # --- partitions and upkeep ---

    def partitions(self) -> dict[str, int]:
        """The names of the partitions, and how many rows each has."""
        return self._table.partitions()

    def stats(self) -> SpaceStats:
        """How the space lies in the store: rows, dead rows and bytes of each segment."""
        rows, segments = self._table.stats()
        return SpaceStats(rows, tuple(SegmentStats(*segment) for segment in segments))

    def compact(self) -> None:
        """Rewrite segments without their dead rows, and small ones together."""
        self._table.compact()

    # --- the index ---

    def wait_indexed(self) -> None:
        """Return when the index covers all rows but the few in the log; it follows by itself."""
        self._table.wait_indexed()

    def optimize(self) -> None:
        """Settle the space now, on all cores: as few segments as can be, each with its graph."""
        self._table.optimize()

    def index_stats(self) -> IndexStats:
        """How far the index is, and how large."""
        return IndexStats(**self._table.index_stats())

    def measure_recall(
        self, k: int = 10, sample: int = 200, *, ef: int | None = None
    ) -> RecallReport:
        """Compare the live index with exact search, around `sample` of the stored rows."""
        return measure_recall(self, k, sample, ef)

    def __repr__(self) -> str:
        return (
            f"<ehub.Space {self.name!r} dims={self.dims} metric={self.metric!r} "
            f"key_type={self.key_type!r}>"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Space cannot be pickled: open its hub where you need it")


def rows_of(data: Any) -> int | None:
    """How many rows are to come, if the thing knows."""
    return len(data) if hasattr(data, "__len__") else None


def say_what_is_stored(error: BaseException, done: int) -> None:
    """Add to the error of a stream that its first `done` rows are stored."""
    where = f"in the batch from row {done:,} on; the {done:,} rows before are stored"
    if type(error) in LOCATED:
        raise type(error)(f"{error} ({where})") from error
    add_note(error, where)
