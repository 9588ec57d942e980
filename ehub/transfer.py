"""Rows brought from one hub to another, with their partitions: all, or those that differ."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ehub import _arrays
from ehub._arrays import NO_PARTITION
from ehub._native import _store
from ehub._progress import Bar, bar
from ehub.types import KeyArray, Vectors
from ehub.version import Version
from ehub.view import BATCH_ROWS

__all__ = ["bring_keys", "copy_rows", "make_equal"]

BATCH_BYTES = 16 << 20


def copy_rows(source: _store.View, target: Version, progress: bool, what: str) -> int:
    """Write every row that a view shows; returns how many."""
    count = 0
    with bar(progress, source.row_count() if progress else None, "row", what) as shown:
        for keys, vectors, partition in labelled_rows(source, target.dims):
            count += target.multiset(keys, vectors, partition=partition)
            shown.update(len(keys))
    return count


def bring_keys(
    source: _store.View, keys: KeyArray, target: Version, progress: bool, what: str
) -> None:
    """Make the rows of some keys what the view shows; in batches."""
    rows = batch_rows(target.dims)
    with bar(progress, len(keys), "key", what) as shown:
        for begin in range(0, len(keys), rows):
            some = keys[begin : begin + rows]
            bring_some(source, some, target)
            shown.update(len(some))


def bring_some(source: _store.View, keys: KeyArray, target: Version) -> None:
    """The same of a batch."""
    packed = target._pack(keys)
    there = np.zeros(len(keys), np.bool_)
    for name in [*source.partitions(), None]:
        view = source if name is None else source.within((name.encode(),))
        vectors, found = view.multiget_found(packed)
        found &= ~there
        there |= found
        if found.any():
            target.multiset(keys[found], vectors[found], partition=name)
    target.multidelete(keys[~there])


def make_equal(
    target: Version, source: _store.View, directory: str, progress: bool, what: str
) -> None:
    """Make the rows of a version those of a view, in one atomic batch of what differs.

    Args:
        target: The version. On a server it is changed in batches, of all rows, the deletes last.
        source: The rows; where they are others, key by key, they take the place of the version's.
        directory: For a file that has the vectors of the batch until it is written.
        progress: Show a bar, of the rows that are looked at or written.
        what: What it says.
    """
    table = target._table
    if not isinstance(table, _store.Table):
        copy_rows(source, target, progress, what)
        target.multidelete(keys_not_in(target, source))
        return
    with tempfile.TemporaryFile(dir=directory) as file:
        with bar(progress, source.row_count() if progress else None, "row", what) as shown:
            keys, partitions, labels = write_differing(target, source, file, shown)
        vectors = np.empty((0, target.dims), np.float32)
        if keys:
            file.flush()
            vectors = np.memmap(file, np.float32, "r", shape=(len(keys), target.dims))
        gone = target._pack(keys_not_in(target, source))
        table.multiset(target._pack(keys), vectors, partitions, labels, gone=gone)


def write_differing(
    target: Version, source: _store.View, file: IO[bytes], shown: Bar
) -> tuple[list[Any], tuple[bytes, ...], NDArray[np.uint32] | None]:
    """Append the vectors of rows that differ to a file; their keys, and their partitions."""
    now = target._now()
    keys: list[Any] = []
    numbers: dict[bytes, int] = {}
    labels = [np.empty(0, np.uint32)]
    labelled = labelled_keys(now)
    for some, vectors, name in labelled_rows(source, target.dims):
        packed = target._pack(some)
        rows = _arrays.as_vectors(vectors, target.dims, target.space)
        differs = ~alike(now, packed, rows, name)
        if name is None and labelled:
            differs |= [key in labelled for key in some.tolist()]
        keys += some[differs].tolist()
        file.write(np.ascontiguousarray(rows[differs], "<f4").data)
        number = NO_PARTITION
        if name is not None:
            number = numbers.setdefault(name.encode(), len(numbers))
        labels.append(np.full(int(differs.sum()), number, np.uint32))
        shown.update(len(some))
    return keys, tuple(numbers), np.concatenate(labels) if numbers else None


def alike(
    view: _store.View, keys: _store.Keys, vectors: Vectors, partition: str | None
) -> NDArray[np.bool_]:
    """Which keys have these very vectors in a view, or in a partition of it."""
    if partition is not None:
        if partition not in view.partitions():
            return np.zeros(len(keys), np.bool_)
        view = view.within((partition.encode(),))
    stored, found = view.multiget_found(keys)
    same: NDArray[np.bool_] = (stored.view(np.uint32) == vectors.view(np.uint32)).all(axis=1)
    return found & same


def keys_not_in(version: Version, rows: _store.View) -> list[Any]:
    """The keys of a version that a view has no rows of."""
    every = (keys for keys in version._now().scan_keys(BATCH_ROWS))
    return [key for keys in every for key in keys[rows.births(version._pack(keys)) == 0].tolist()]


def labelled_keys(view: _store.View) -> set[Any]:
    """The keys that are in some partition."""
    parts = (view.within((name.encode(),)) for name in view.partitions())
    return {key for part in parts for keys in part.scan_keys(BATCH_ROWS) for key in keys.tolist()}


def labelled_rows(view: _store.View, dims: int) -> Iterator[tuple[KeyArray, Vectors, str | None]]:
    """All rows of a view, each batch with the partition that its rows are in."""
    rows = batch_rows(dims)
    labelled: set[Any] = set()
    for name in view.partitions():
        for keys, vectors in view.within((name.encode(),)).scan(rows):
            labelled.update(keys.tolist())
            yield keys, vectors, name
    for keys, vectors in view.scan(rows):
        if labelled:
            bare = [key not in labelled for key in keys.tolist()]
            keys, vectors = keys[bare], vectors[bare]
        if len(keys):
            yield keys, vectors, None


def batch_rows(dims: int) -> int:
    """How many rows are brought at a time."""
    return max(1, BATCH_BYTES // (4 * dims))
