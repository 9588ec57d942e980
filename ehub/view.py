"""Reading, written once: all that can be asked of a space at one point in time.

A view is a table and a set of rows. Every call looks at one consistent state: whole batches, all of
them acknowledged before the call, whatever is written meanwhile.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast, overload

import numpy as np
from numpy.typing import NDArray

from ehub import _arrays, _arrow
from ehub import average as averages
from ehub._native import _store
from ehub._progress import bar
from ehub.alignment import Alignment
from ehub.condition import as_condition, passing
from ehub.errors import InvalidArgumentError, InvalidKeyError
from ehub.interrupts import searched
from ehub.kmeans import KMeans, kmeans
from ehub.model import Model, model_of, require_same_model
from ehub.neighbors import Neighbors, split
from ehub.recommend import as_examples, query_of
from ehub.types import Key, KeyArray, KeyType, Metric, Vectors

if TYPE_CHECKING:
    import pyarrow as pa

    from ehub.dataset import RowDataset
    from ehub.local_copy import LocalCopy

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
    def space(self) -> str:
        """The name of the space that the rows are in."""
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
        require_none(default)
        packed = self._pack(keys)
        if default is REQUIRED:
            return self._now().multiget(packed)
        return self._now().multiget_found(packed)

    def get(self, key: Key) -> Vectors:
        """The vector of `key`, float32[dims], an array of your own."""
        return self._now().get(key)

    def __getitem__(self, key: Key) -> Vectors:
        return self.get(key)

    def __contains__(self, key: object) -> bool:
        try:
            return self._now().contains(key)
        except InvalidKeyError:  # what can be no key is not there
            return False

    def __len__(self) -> int:
        return self._now().row_count()

    # --- averages ---

    def average(
        self, keys: Iterable[Key], weights: Any = None, *, normalize: bool = False
    ) -> Vectors:
        """The mean of the vectors of `keys`, weighted if `weights` (one number a key) are given.

        A key that is listed twice counts twice. It is computed in float64. With `normalize` it is
        scaled to unit length.
        """
        if weights is not None:
            _arrays.require_order(keys)
        packed = self._pack(keys)
        shares = _arrays.as_weights(weights, len(packed))
        return averages.average(self._now(), packed, shares, normalize)

    @overload
    def multi_average(
        self,
        groups: Mapping[Any, Iterable[Key]] | Iterable[Key],
        weights: Any = None,
        *,
        offsets: Any = None,
        normalize: bool = False,
    ) -> Vectors: ...
    @overload
    def multi_average(
        self,
        groups: Mapping[Any, Iterable[Key]] | Iterable[Key],
        weights: Any = None,
        *,
        offsets: Any = None,
        default: None,
        normalize: bool = False,
    ) -> tuple[Vectors, NDArray[np.int64]]: ...
    def multi_average(
        self,
        groups: Mapping[Any, Iterable[Key]] | Iterable[Key],
        weights: Any = None,
        *,
        offsets: Any = None,
        default: None = REQUIRED,
        normalize: bool = False,
    ) -> Vectors | tuple[Vectors, NDArray[np.int64]]:
        """The averages of many groups of keys in one call, on all cores: float32[g, dims].

        A missing key is a NotFoundError that names the first one, and an empty group an
        InvalidArgumentError. With `default=None` neither is: missing keys are left out, with their
        weights, and the answer is a pair, the averages and int64[g], how many keys of each group
        were found; where none was, the average is zeros.

        Args:
            groups: A mapping of group to keys, whose order is that of the answer; or the keys of
                all groups in one sequence, with `offsets`.
            weights: One number a membership: by group if `groups` are a mapping, or all in one
                sequence. The average of a group is its weighted mean.
            offsets: Where each group begins in the sequence of keys, and where the last one ends:
                int64[g + 1], as in a CSR matrix.
            default: None, to leave out what is missing.
            normalize: Scale each average to unit length; one that is zero is an error.
        """
        require_none(default)
        members = averages.as_groups(groups, weights, offsets, self.key_type, self._table.space)
        skips = default is not REQUIRED
        means, found = averages.multi_average(self._now(), members, normalize, skips)
        return (means, found) if skips else means

    def partition_averages(self, *, normalize: bool = False) -> dict[str, Vectors]:
        """The average of each partition: names, and float32[dims] as of `average()`."""
        return averages.partition_averages(self._now(), normalize)

    def partitions(self) -> dict[str, int]:
        """The names of the partitions that have rows, and how many each has."""
        return self._now().partitions()

    def kmeans(
        self,
        k: int,
        *,
        seed: int = 0,
        iterations: int = 25,
        sample: int | None = None,
        progress: bool = False,
    ) -> KMeans:
        """`k` centroids that stand for the rows, by k-means on all cores.

        Under cosine it is spherical k-means: rows count by their direction, centroids have unit
        length, distances are 1 - cos. Under l2 and ip distances are squared Euclidean. The same
        rows and seed give the same centroids, on any number of cores.

        Args:
            k: How many clusters, at most as many as there are rows.
            seed: Of the random choice of the first centroids, and of the sample.
            iterations: At most so many; fewer if no row changes its cluster any more.
            sample: Look at so many rows only, drawn at random.
            progress: Show a bar if standard error is a terminal.
        """
        return kmeans(
            self._now(), k, seed=seed, iterations=iterations, sample=sample, progress=progress
        )

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
        return pyarrow.RecordBatchReader.from_batches(*self._record_batches(batch_rows, progress))

    def _record_batches(
        self, batch_rows: int, progress: bool
    ) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
        """The columns of all rows, and the rows."""
        columns = _arrow.schema(self.dims, self.key_type)
        batches = self._scan_with_bar(as_batch_rows(batch_rows), progress)
        return columns, _arrow.record_batches(batches, columns)

    def _scan_with_bar(self, batch_rows: int, progress: bool) -> Iterator[tuple[KeyArray, Vectors]]:
        view = self._now()
        return scan_with_bar(view, batch_rows, progress, f"to_arrow {self.name}")

    def download_snapshot(self, *, progress: bool = False) -> LocalCopy:
        """The rows as they are now in a hub of their own, to be read and changed like a space.

        It is in a temporary directory (`TMPDIR`) and shares nothing with this hub: making it copies
        every row, and takes their room once more. To read alone, `snapshot()` costs nothing.

        Args:
            progress: Show a bar if standard error is a terminal.
        """
        from ehub.local_copy import LocalCopy, copy_of  # it is made of all that is here

        return copy_of(self, LocalCopy, progress)

    def to_torch_dataset(self) -> RowDataset:
        """The rows as they are now, as a map-style dataset of (key, tensor); needs torch.

        No row is copied: the processes of a loader, however they are started, read them from the
        files of the hub. What is no named tag's is recorded meanwhile as a snapshot without a name,
        which goes with the dataset; so `expire_snapshots()` must not, and a process that was killed
        leaves it for that. A hub opened with `read_only=True` records none: other processes can
        read datasets of its tags alone.

        Raises:
            InvalidArgumentError: The hub is on a server: use that of `download_snapshot()`.
            UnavailableError: There is no torch.
        """
        from ehub.dataset import torch_dataset  # it is made of all that is here

        self._now()  # says so if the hub is closed or the version gone
        return torch_dataset(self)

    # --- by distance ---

    def nearest_neighbors(
        self,
        num: int,
        *,
        key: Key | None = None,
        vector: Any = None,
        partition: str | Iterable[str] | None = None,
        filter: KeyFilter | None = None,
        max_distance: float | None = None,
        ef: int | None = None,
        exact: bool = False,
        via: Alignment | None = None,
        model: Model | None = None,
    ) -> Neighbors:
        """The `num` nearest rows to a stored key, which is not among them, or to a vector.

        Rows that the index covers are found by a walk over its graph, which may miss some; the
        distances are exact, and rows that are not indexed yet are always found.

        Args:
            num: How many, at most a million; fewer come only if there are no more.
            key: A key of this space.
            vector: float32[dims]; either this or `key`.
            partition: Only rows of this partition, or of these; then `key` must be one of theirs.
            filter: Only rows with these keys: a collection of keys (those that the space does not
                have are ignored), or a function that says whether a key may be in the answer; it
                is called once for every key of the space.
            max_distance: Only rows at most this far.
            ef: How many candidates the walk keeps: more find more and take longer. Without it, as
                many as the space's `target_recall` needs.
            exact: Look at every row, and miss none.
            via: What `ehub.align(source, this)` gave: `vector` is one of the source's model, with
                its dims, and is mapped before the search.
            model: The model that made `vector`: a ModelMismatchError if the version is of another
                one. Not with `via`, whose queries are of another on purpose.
        """
        if (key is None) == (vector is None):
            raise InvalidArgumentError("nearest_neighbors() needs either key= or vector=")
        self._require_model(model, via)
        if via is not None:
            vector = self._alignment(via, key).map_one(vector)
        if key is None:
            table = self._table
            query = _arrays.as_vector(vector, table.dims, table.space)
            options = search_options(num, max_distance, ef, exact)
            if filter is None:
                return Neighbors(*self._within(partition).nearest_one(query, *options))
            return self._search(None, query[np.newaxis], partition, filter, options)[0]
        options = search_options(num, max_distance, ef, exact)
        return self._search([key], None, partition, filter, options)[0]

    def multi_nearest_neighbors(
        self,
        num: int,
        *,
        keys: Iterable[Key] | None = None,
        vectors: Any = None,
        partition: str | Iterable[str] | None = None,
        filter: KeyFilter | None = None,
        max_distance: float | None = None,
        ef: int | None = None,
        exact: bool = False,
        via: Alignment | None = None,
        model: Model | None = None,
    ) -> list[Neighbors]:
        """`nearest_neighbors()` of many keys, or many vectors (float32[n, dims]), on all cores.

        Among some of the rows (`filter`, `partition`), a query of 16 or more may find what it would
        miss alone: rows that pass, where few are near, are compared with all such queries at once.
        """
        if (keys is None) == (vectors is None):
            raise InvalidArgumentError("multi_nearest_neighbors() needs either keys= or vectors=")
        self._require_model(model, via)
        if via is not None:
            vectors = self._alignment(via, keys).map(vectors)
        if keys is None:
            vectors = _arrays.as_vectors(vectors, self.dims, self._table.space, "query vector")
        options = search_options(num, max_distance, ef, exact)
        return self._search(keys, vectors, partition, filter, options)

    def recommend(
        self,
        num: int,
        *,
        positive: Any,
        negative: Any = (),
        weights: Any = None,
        partition: str | Iterable[str] | None = None,
        filter: KeyFilter | None = None,
        max_distance: float | None = None,
        ef: int | None = None,
        exact: bool = False,
    ) -> Neighbors:
        """The `num` rows nearest to what the positive examples have in common; never an example.

        The search is around p + (p - n), where p is the average of the positives and n that of the
        negatives; without negatives, around p. Under cosine a vector counts by its direction alone.

        Args:
            num: How many, at most a million; fewer come only if there are no more.
            positive: Keys of this space; or vectors, as an array of floats [n, dims].
            negative: The same, of what is not wanted.
            weights: One number for each positive, or for each positive and then each negative.
            partition: Only rows of this partition, or of these; examples must be among them.
            filter: As in `nearest_neighbors()`, and so are the others.
            max_distance: Only rows at most this far from the point of the search.
            ef: How many candidates the walk keeps.
            exact: Look at every row, and miss none.
        """
        k, distance_max, width, exact = search_options(num, max_distance, ef, exact)
        wanted = as_examples(positive, "positive")
        unwanted = as_examples(negative, "negative")
        view = self._within(partition)
        query = query_of(
            self._examples(view, wanted), self._examples(view, unwanted), weights, self.metric
        )
        keys = [key for part in (wanted, unwanted) if isinstance(part, list) for key in part]
        chosen = None if filter is None else self._choose(view, filter)
        packed = self._pack(keys)
        return Neighbors(*view.recommend(query, packed, k, distance_max, chosen, width, exact))

    def _examples(self, view: _store.View, examples: list[Any] | Vectors) -> Vectors:
        if isinstance(examples, list):
            return view.multiget(self._pack(examples))
        return _arrays.as_vectors(examples, self.dims, self._table.space, "example")

    def _within(self, partition: str | Iterable[str] | None) -> _store.View:
        """The rows to read, of some partitions if that was asked for."""
        view = self._now()
        return view if partition is None else view.within(_arrays.as_partition_names(partition))

    def _search(
        self,
        keys: Iterable[Key] | None,
        vectors: Vectors | None,
        partition: str | Iterable[str] | None,
        filter: KeyFilter | None,
        options: tuple[int, float, int, bool],
    ) -> list[Neighbors]:
        k, distance_max, width, exact = options
        packed = None if keys is None else self._pack(keys)
        view = self._within(partition)
        chosen = None if filter is None else self._choose(view, filter)
        more = (k, distance_max, chosen, width, exact)
        if packed is None:
            return split(*searched(view.nearest, cast("Vectors", vectors), *more))
        return split(*searched(view.nearest_to, packed, *more))

    def _alignment(self, via: Any, key: Any) -> Alignment:
        """The map of a search by vectors, which leads to this view."""
        if not isinstance(via, Alignment):
            raise TypeError(f"via is {via!r:.100}; expected an Alignment, as ehub.align() gives")
        if key is not None:
            raise InvalidArgumentError(
                "via= maps query vectors; the vector of a stored key needs no map: leave it out"
            )
        via.require_target(self.name, self.dims, self.metric)
        return via

    def _require_model(self, model: Model | None, via: Alignment | None = None) -> None:
        if model is None:
            return
        if via is not None:
            raise InvalidArgumentError(
                "model= says that the query is of this version's model, and via= that it is not; "
                "give one of them"
            )
        table = self._table
        require_same_model(
            model, model_of(table), f"version {table.version!r} of space {table.space!r}"
        )

    def _choose(self, view: _store.View, filter: KeyFilter) -> _store.Filter:
        """The rows of `view` that pass a filter."""
        if callable(filter):
            condition = as_condition(filter, "filter")
            every = (key for keys in view.scan_keys(BATCH_ROWS) for key in keys.tolist())
            return view.select(self._pack(passing(every, condition, "filter")))
        return view.select(self._pack(filter))

    def _pack(self, keys: Iterable[Key]) -> _store.Keys:
        return _arrays.as_keys(keys, self._table.key_type, self._table.space)


def require_none(default: Any) -> None:
    """Refuse a default for what is missing that is not None."""
    if default is not REQUIRED and default is not None:
        raise InvalidArgumentError(f"default is {default!r:.100}; None is the only one there is")


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
