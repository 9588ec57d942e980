"""A version: the rows of one model generation of a space, written, read and searched."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ehub import _arrays, _arrow, names
from ehub._native import _store
from ehub._progress import bar
from ehub._watching import building, rewriting
from ehub.errors import (
    DimensionError,
    InvalidArgumentError,
    InvalidKeyError,
    InvalidVectorError,
    add_note,
)
from ehub.history import History
from ehub.index import IndexStats, RecallReport, measure_recall
from ehub.interrupts import stoppable
from ehub.model import Lineage, Model, model_of
from ehub.named_average import NamedAverages
from ehub.partition import Partition
from ehub.subindex import SubIndices
from ehub.types import Key, SegmentStats, SpaceStats, Vectors

if TYPE_CHECKING:
    from ehub.hub import Hub

__all__ = ["Version"]

# Errors about what was given, which say in their own words where it lies in a stream.
LOCATED = (DimensionError, InvalidArgumentError, InvalidKeyError, InvalidVectorError)

# Rows of one version in a batch over several.
Part: TypeAlias = tuple[
    _store.Table, _store.Keys, Vectors, tuple[bytes, ...], NDArray[np.uint32] | None
]

# A stream is stored in batches of so many rows, or fewer if they are long.
STREAM_BATCH_ROWS = 10_000
STREAM_BATCH_BYTES = 16 << 20

# A batch of less is stored soon, and a thread for it would be felt.
LONG_WRITE_BYTES = 64 << 20


class Version(NamedAverages, SubIndices, History):
    """A model generation of a space: its own dims, metric and vectors, under unique keys.

    A version comes from `Space.version()` or `Space.create_version()`; a space itself reads and
    writes the version behind its alias "default". It may be used from many threads: writes are
    atomic and take effect in one order for all, reads see whole batches. A call that raises has
    changed nothing, but for `multiset()` of a stream or a table: batches before it stay.

    It behaves as a mapping where that is clear: `items[key]`, `items[key] = vector`,
    `del items[key]`, `key in items`, `len(items)`, and iteration over keys.

    Writes and searches take `model`, an `ehub.Model`: if it is not the one that the version is of,
    they are refused with a ModelMismatchError.
    """

    __slots__ = ("_hub", "_table")

    _table: _store.Table

    def __init__(self, hub: Hub, table: _store.Table) -> None:
        self._hub = hub
        self._table = table

    @property
    def hub(self) -> Hub:
        """The hub that it is in."""
        return self._hub

    @property
    def name(self) -> str:
        """The version's name."""
        return self._table.version

    def _now(self) -> _store.View:
        return self._table.view()

    # --- one row ---

    def get(self, key: Key) -> Vectors:
        """The vector of `key`, float32[dims], an array of your own."""
        return self._table.get(key)

    def set(
        self, key: Key, vector: Any, *, partition: str | None = None, model: Model | None = None
    ) -> None:
        """Store `vector` under `key`, in place of an older one. Durable when it returns."""
        # What is checked is what is written to, wherever a space's alias leads meanwhile.
        version = self if model is None else self._as_version()
        version._require_model(model)
        table = version._table
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
        model: Model | None = None,
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

        Arrays must not be changed until the call has ended.

        If a stream or a table fails, the batches before stay, and the error says how many rows.

        Args:
            keys: The keys, or keys and vectors in one of the other ways.
            vectors: Anything that numpy takes for an array; float32 is read in place.
            partition: The name of the partition for all rows; with keys and vectors or a mapping,
                also a name for each row.
            model: The model that made the vectors, to be checked against the version's.
            key_column: The name of an Arrow table's column of keys.
            vector_column: And of its vectors: lists of floats, of fixed size at best.
            progress: Show a bar if standard error is a terminal.
        """
        # A space's alias may be moved meanwhile; what one call brings goes to one version.
        version = self._as_version()
        version._require_model(model)
        if vectors is not None:
            _arrays.require_order(keys)
            return version._write_one(keys, vectors, partition, progress)
        if isinstance(keys, Mapping):
            return version._write_one(list(keys), list(keys.values()), partition, progress)
        if _arrow.exports_arrow(keys):
            batches = _arrow.read_batches(keys, key_column, vector_column)
            return version._write_all(batches, partition, rows_of(keys), progress)
        if isinstance(keys, (str, bytes, np.ndarray)) or not isinstance(keys, Iterable):
            raise TypeError(
                "multiset() needs keys and vectors, a mapping, pairs of key and vector, or a table"
            )
        return version._write_all(version._batches_of(keys), partition, rows_of(keys), progress)

    def multidelete(self, keys: Iterable[Key]) -> int:
        """Delete the rows of `keys` in one atomic batch; return how many there were."""
        return self._table.multidelete(self._pack(keys))

    def delete_all(self) -> int:
        """Delete every row in one atomic batch; return how many there were."""
        return self._table.delete_all()

    def _write_one(self, keys: Any, vectors: Any, partition: Any, progress: bool) -> int:
        packed = self._pack(keys)
        rows = _arrays.as_vectors(vectors, self.dims, self._table.space)
        _arrays.require_same_length(packed, rows)
        partitions = _arrays.as_partitions(partition, len(packed))
        with bar(progress, len(packed), "row", f"multiset {self._table.space}") as shown:
            if rows.nbytes < LONG_WRITE_BYTES:
                self._table.multiset(packed, rows, *partitions)
            else:
                stoppable(self._table.multiset, packed, rows, *partitions)
            shown.update(len(packed))
        return len(packed)

    def _part(self, keys: Any, vectors: Any, partition: Any) -> Part:
        """Rows as a part of a batch over several versions."""
        packed = self._pack(keys)
        rows = _arrays.as_vectors(vectors, self.dims, self._table.space)
        _arrays.require_same_length(packed, rows)
        return (self._table, packed, rows, *_arrays.as_partitions(partition, len(packed)))

    def _write_all(
        self, batches: Iterable[tuple[Any, Any]], partition: Any, total: int | None, progress: bool
    ) -> int:
        if not (partition is None or isinstance(partition, str)):
            raise TypeError("a stream or a table takes one partition for all its rows")
        done = 0
        with bar(progress, total, "row", f"multiset {self._table.space}") as shown:
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
        return _arrays.as_vector(vector, self.dims, self._table.space, f"the vector of row {row}")

    # --- partitions and upkeep ---

    def partition(self, name: str) -> Partition:
        """The rows of one partition, to be read and written like a space.

        Writing to a partition that there is not makes it; reading it is a NotFoundError.
        """
        return Partition(self, name)

    def drop_partition(self, name: str) -> int:
        """Delete every row of a partition in one atomic batch; return how many there were.

        What is written for it is the partition's name, however many rows that are. Tags and
        snapshots made before still show them. A NotFoundError if no row was ever in it; one that
        is empty by now has no rows to delete. Its name may be given to rows again.
        """
        return self.partition(name).delete_all()

    def stats(self) -> SpaceStats:
        """How the space lies in the store: rows, dead rows and bytes of each segment."""
        rows, segments = self._table.stats()
        return SpaceStats(rows, tuple(SegmentStats(*segment) for segment in segments))

    def compact(self, *, progress: bool = False) -> None:
        """Rewrite segments without their dead rows, and small ones together.

        Args:
            progress: Show a bar if standard error is a terminal: rows written to new segments.
        """
        with rewriting(progress, self._table.store, f"compact {self._table.space}"):
            stoppable(self._table.compact)

    # --- the index ---

    def wait_indexed(self, *, progress: bool = False) -> None:
        """Return when the index covers all rows but the few in the log; it follows by itself.

        Args:
            progress: Show a bar if standard error is a terminal: rows of the graphs built.
        """
        with building(progress, self._table, "wait_indexed"):
            stoppable(self._table.wait_indexed)

    def optimize(self, *, progress: bool = False) -> None:
        """Settle the space now, on all cores: as few segments as can be, each with its graph.

        Args:
            progress: Show a bar if standard error is a terminal: rows of the graphs built. What
                else turns out to be due adds to their total.
        """
        with building(progress, self._table, "optimize"):
            stoppable(self._table.optimize)

    def index_stats(self) -> IndexStats:
        """How far the index is, and how large."""
        return IndexStats(**self._table.index_stats())

    def measure_recall(
        self, k: int = 10, sample: int = 200, *, ef: int | None = None, progress: bool = False
    ) -> RecallReport:
        """Compare the live index with exact search, around `sample` of the stored rows.

        Args:
            k: How many neighbours count, at most 10,000.
            sample: How many rows to search around, at most 100,000.
            ef: How many candidates a walk keeps; without it, as many as searches do.
            progress: Show a bar if standard error is a terminal.
        """
        return measure_recall(self, k, sample, ef, progress)

    @property
    def model(self) -> Model | None:
        """The model that made the vectors, if that was said."""
        return model_of(self._table)

    @property
    def lineage(self) -> Lineage:
        """How the version came to be."""
        note = names.note_of_version(self._table.space, self._table.version)
        return names.understood(note, lambda: Lineage(**self._described().get("lineage", {})))

    @property
    def created(self) -> str:
        """When it was made, in UTC (ISO 8601); "" if nobody noted it."""
        return str(self._described().get("created", ""))

    @property
    def frozen(self) -> bool:
        """Whether nothing can change it any more."""
        return self._table.frozen

    def freeze(self) -> None:
        """Refuse all later writes, for ever: a FrozenError. It can be read, tagged and deleted."""
        self._table.freeze()

    def _described(self) -> dict[str, Any]:
        table = self._table
        return names.read(table.store, names.note_of_version(table.space, table.version))

    def _as_version(self) -> Version:
        return self

    def _of(self, table: _store.Table) -> Version:
        return Version(self._hub, table)

    def __repr__(self) -> str:
        return (
            f"<ehub.Version {self.name!r} of {self._table.space!r} dims={self.dims} "
            f"metric={self.metric!r} key_type={self.key_type!r}>"
        )

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be pickled: open its hub where you need it"
        )


def rows_of(data: Any) -> int | None:
    """How many rows are to come, if the thing knows."""
    return len(data) if hasattr(data, "__len__") else None


def say_what_is_stored(error: BaseException, done: int) -> None:
    """Add to the error of a stream that its first `done` rows are stored."""
    where = f"in the batch from row {done:,} on; the {done:,} rows before are stored"
    if type(error) in LOCATED:
        raise type(error)(f"{error} ({where})") from error
    add_note(error, where)
