"""Reading, written once: all that can be asked of a space at one point in time.

A view is a table and a set of rows. Every call looks at one consistent state: whole batches, all of
them acknowledged before the call, whatever is written meanwhile.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
from numpy.typing import NDArray

from ehub import _arrays, _arrow
from ehub._native import _store
from ehub._progress import bar
from ehub.errors import InvalidArgumentError, InvalidVectorError
from ehub.neighbors import Neighbors, split
from ehub.types import Key, KeyArray, KeyType, Metric, Vectors

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["View"]

NEIGHBORS_MAX = 1_000_000
EF_MAX = 1_000_000
BATCH_ROWS = 65_536
BATCH_ROWS_MAX = 1 << 24

REQUIRED: Any = object()  # no default was given

KeyFilter = Iterable[Key] | Callable[[Any], bool]


class View(ABC):
    """What can be read like a space."""

    __slots__ = ("__weakref__", "_table")

    _table: _store.Table

    @abstractmethod
    def _now(self) -> _store.View:
        """The rows to read, as of now."""

    @property
    def name(self) -> str:
        """The space's name."""
        return self._table.space

    @property
    def dims(self) -> int:
        """How many numbers a vector has."""
        return self._table.dims

    @property
    def metric(self) -> Metric:
        """What distance means: "cosine" (1 - cos), "l2" (squared) or "ip" (1 - dot)."""
        return self._table.metric

    @property
    def key_type(self) -> KeyType:
        """What keys are: "str" or "int"."""
        return self._table.key_type

    # --- by key ---

    @overload
    def multiget(self, keys: Iterable[Key]) -> Vectors: ...
    @overload
    def multiget(
        self, keys: Iterable[Key], *, default: None
    ) -> tuple[Vectors, NDArray[np.bool_]]: ...
    def multiget(
        self, keys: Iterable[Key], *, default: None = REQUIRED
    ) -> Vectors | tuple[Vectors, NDArray[np.bool_]]:
        """The vectors of `keys`, in their order, as float32[n, dims].

        A missing key is a NotFoundError that names the first one. With `default=None` it is not:
        the answer is then a pair, the vectors with zeros for missing keys, and bool[n] that says
        which keys were found.
        """
        packed = self._pack(keys)
        if default is REQUIRED:
            return self._now().multiget(packed)
        if default is not None:
            raise InvalidArgumentError(
                f"default is {default!r:.100}; None is the only one there is"
            )
        return self._now().multiget_found(packed)

    def average(self, keys: Iterable[Key], weights: Any = None) -> Vectors:
        """The mean of the vectors of `keys`, weighted if `weights` (one number a key) are given.

        A key that is listed twice counts twice. It is computed in float64.
        """
        if weights is not None:
            _arrays.require_order(keys)
        packed = self._pack(keys)
        mean = self._now().weighted_sum(packed, _arrays.as_shares(weights, len(packed)))
        with np.errstate(over="ignore"):
            average = mean.astype(np.float32)
        if not np.isfinite(average).all():
            raise InvalidVectorError("the average is too large for float32")
        return average

    # --- all rows ---

    def scan(self, batch_rows: int = BATCH_ROWS) -> Iterator[tuple[KeyArray, Vectors]]:
        """All rows, in batches of at most `batch_rows`: pairs of keys and float32[m, dims].

        The vectors are read-only arrays over the mapped files where rows lie together, and stay
        good when the hub is closed; elsewhere they are copies. The order is that of the files. All
        batches show the state of the moment of the call.
        """
        return self._now().scan(as_batch_rows(batch_rows))

    def iterator(self) -> Iterator[tuple[Key, Vectors]]:
        """All rows, one at a time: pairs of key and float32[dims]."""
        return (
            (key, vector)
            for keys, rows in self.scan()
            for key, vector in zip(keys.tolist(), rows, strict=True)
        )

    def __iter__(self) -> Iterator[Any]:
        """All keys."""
        batches = self._now().scan_keys(BATCH_ROWS)
        return (key for keys in batches for key in keys.tolist())

    def keys(self) -> KeyArray:
        """All keys: int64, or an array of Python strings; in the order of `scan()`."""
        return joined(self._now().scan_keys(BATCH_ROWS), self.key_type)

    def to_numpy(self, *, progress: bool = False) -> tuple[KeyArray, Vectors]:
        """All keys, and all vectors as one float32[n, dims] of your own."""
        view = self._now()
        count = view.row_count()
        vectors = np.empty((count, self.dims), np.float32)
        keys = []
        done = 0
        with bar(progress, count, "row", f"to_numpy {self.name}") as shown:
            for batch_keys, batch_vectors in view.scan(BATCH_ROWS):
                vectors[done : done + len(batch_keys)] = batch_vectors
                keys.append(batch_keys)
                done += len(batch_keys)
                shown.update(len(batch_keys))
        return joined(keys, self.key_type), vectors

    def to_arrow(self, *, progress: bool = False) -> pa.Table:
        """All rows as a pyarrow Table with the columns `key` and `vector`; needs `ehub[arrow]`.

        The vectors lie in the mapped files where they can, and stay good when the hub is closed.
        """
        return self.to_arrow_batches(progress=progress).read_all()

    def to_arrow_batches(
        self, batch_rows: int = BATCH_ROWS, *, progress: bool = False
    ) -> pa.RecordBatchReader:
        """All rows as a stream of Arrow record batches, which other libraries read as it is."""
        pyarrow = _arrow.import_pyarrow()
        columns = _arrow.schema(self.dims, self.key_type)
        batches = self._scan_with_bar(as_batch_rows(batch_rows), progress)
        return pyarrow.RecordBatchReader.from_batches(
            columns, _arrow.record_batches(batches, columns)
        )

    def _scan_with_bar(self, batch_rows: int, progress: bool) -> Iterator[tuple[KeyArray, Vectors]]:
        view = self._now()
        return scan_with_bar(view, batch_rows, progress, f"to_arrow {self.name}")

    # --- by distance ---

    def nearest_neighbors(
        self,
        num: int,
        *,
        key: Key | None = None,
        vector: Any = None,
        filter: KeyFilter | None = None,
        max_distance: float | None = None,
        ef: int | None = None,
        exact: bool = False,
    ) -> Neighbors:
        """The `num` nearest rows to a stored key, which is not among them, or to a vector.

        Rows that the index covers are found by a walk over its graph, which may miss some; the
        distances are exact, and rows that are not indexed yet are always found.

        Args:
            num: How many, at most a million; fewer come only if there are no more.
            key: A key of this space.
            vector: float32[dims]; either this or `key`.
            filter: Only rows with these keys: a collection of keys (those that the space does not
                have are ignored), or a function that says whether a key may be in the answer; it
                is called once for every key of the space.
            max_distance: Only rows at most this far.
            ef: How many candidates the walk keeps: more find more and take longer. Without it, as
                many as the space's `target_recall` needs.
            exact: Look at every row, and miss none.
        """
        if (key is None) == (vector is None):
            raise InvalidArgumentError("nearest_neighbors() needs either key= or vector=")
        if key is None:
            table = self._table
            query = _arrays.as_vector(vector, table.dims, table.space)
            if filter is None:
                options = search_options(num, max_distance, ef, exact)
                return Neighbors(*self._now().nearest_one(query, *options))
            return self._search(num, None, query[np.newaxis], filter, max_distance, ef, exact)[0]
        return self._search(num, [key], None, filter, max_distance, ef, exact)[0]

    def multi_nearest_neighbors(
        self,
        num: int,
        *,
        keys: Iterable[Key] | None = None,
        vectors: Any = None,
        filter: KeyFilter | None = None,
        max_distance: float | None = None,
        ef: int | None = None,
        exact: bool = False,
    ) -> list[Neighbors]:
        """`nearest_neighbors()` of many keys, or many vectors (float32[n, dims]), on all cores."""
        if (keys is None) == (vectors is None):
            raise InvalidArgumentError("multi_nearest_neighbors() needs either keys= or vectors=")
        if keys is None:
            vectors = _arrays.as_vectors(vectors, self.dims, self.name, "query vector")
        return self._search(num, keys, vectors, filter, max_distance, ef, exact)

    def _search(
        self,
        num: int,
        keys: Iterable[Key] | None,
        vectors: Vectors | None,
        filter: KeyFilter | None,
        max_distance: float | None,
        ef: int | None,
        exact: bool,
    ) -> list[Neighbors]:
        k, distance_max, width, exact = search_options(num, max_distance, ef, exact)
        packed = None if keys is None else self._pack(keys)
        view = self._now()
        chosen = None if filter is None else self._choose(view, filter)
        if packed is None:
            rows = cast("Vectors", vectors)
            return split(*view.nearest(rows, k, distance_max, chosen, width, exact))
        return split(*view.nearest_to(packed, k, distance_max, chosen, width, exact))

    def _choose(self, view: _store.View, filter: KeyFilter) -> _store.Filter:
        """The rows of `view` that pass a filter."""
        if callable(filter):
            every = (key for keys in view.scan_keys(BATCH_ROWS) for key in keys.tolist())
            return view.select(self._pack([key for key in every if filter(key)]))
        return view.select(self._pack(filter))

    def _pack(self, keys: Iterable[Key]) -> _store.Keys:
        return _arrays.as_keys(keys, self._table.key_type, self._table.space)


def search_options(
    num: int, max_distance: float | None, ef: int | None, exact: bool
) -> tuple[int, float, int, bool]:
    """The options of a search, checked; `ef` 0 is "as the space needs"."""
    if not isinstance(exact, bool):
        raise TypeError(f"exact is {exact!r:.100}; expected True or False")
    return (
        _arrays.as_integer(num, "num", 1, NEIGHBORS_MAX),
        math.inf if max_distance is None else _arrays.as_distance_max(max_distance),
        0 if ef is None else _arrays.as_integer(ef, "ef", 1, EF_MAX),
        exact,
    )


def as_batch_rows(batch_rows: int) -> int:
    """A number of rows that a batch may have."""
    return _arrays.as_integer(batch_rows, "batch_rows", 1, BATCH_ROWS_MAX)


def joined(batches: Iterable[KeyArray], key_type: KeyType) -> KeyArray:
    """Keys that came in batches, as one array."""
    empty = np.empty(0, np.int64 if key_type == "int" else np.object_)
    return cast("KeyArray", np.concatenate([empty, *batches]))


def scan_with_bar(
    view: _store.View, batch_rows: int, progress: bool, what: str
) -> Iterator[tuple[KeyArray, Vectors]]:
    """The batches of a scan, counted on a bar."""
    with bar(progress, view.row_count() if progress else None, "row", what) as shown:
        for keys, vectors in view.scan(batch_rows):
            yield keys, vectors
            shown.update(len(keys))
