"""Rows by number, for loaders of batches: what torch calls a map-style dataset.

No row is copied. The rows are those of one point in time, which a tag holds: whoever has the tag's
name reads the same rows from the files, so the processes of a loader, forked or not, open the hub
for themselves, read-only, and are told nothing but the keys.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import finalize

import numpy as np

from ehub._native import _store
from ehub.errors import (
    ClosedError,
    InvalidArgumentError,
    NotFoundError,
    ReadOnlyError,
    UnavailableError,
)
from ehub.partition import Partition
from ehub.snapshot import Snapshot, opened_at
from ehub.subindex import SubIndex
from ehub.types import KeyArray, Vectors
from ehub.version import Version
from ehub.view import BATCH_ROWS, View, joined

__all__ = ["RowDataset", "torch_dataset"]


class RowDataset:
    """The rows of a view, by number: pairs of key and tensor.

    They are those of the moment it was made, and can be read as long as it lives, its hub being
    open or not in the processes that it gets to.
    """

    def __init__(self, view: View, convert: Callable[[Vectors], Any]) -> None:
        self._convert = convert
        self._view = view  # of a local copy: it is deleted with its last user
        self._rows = rows_for(view)
        self._keys = keys_for(view, self._rows)
        self._place = None if self._rows.tag is None else self._rows.place
        self._pid = os.getpid()  # of the process that `_rows` are open in
        if self._rows.tag is not None and not self._rows.tag.is_named:
            finalize(self, let_go, self._rows.version, self._rows.tag.name, self._pid)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: list[int]) -> list[tuple[Any, Any]]:
        """The rows of a batch, read in one call; torch's loaders use it where it is there."""
        keys = self._keys[np.asarray(indices, np.int64)]
        vectors = self._opened().multiget(keys)
        return [(key, self._convert(row)) for key, row in zip(keys.tolist(), vectors, strict=True)]

    def _opened(self) -> Snapshot:
        if self._pid != os.getpid():  # a process of its own: it cannot use the parent's hub
            if self._place is None:
                raise ReadOnlyError(
                    "the rows of this dataset have no tag, which a hub opened with read_only=True "
                    "cannot give them: to read them in other processes, make it of at(tag)"
                )
            self._rows = opened_at(*self._place)
            self._pid = os.getpid()
        return self._rows

    def __getstate__(self) -> dict[str, Any]:
        kept = {"_convert": self._convert, "_keys": self._keys, "_place": self._place}
        return kept | {"_view": None, "_rows": None, "_pid": 0}


def torch_dataset(view: View) -> RowDataset:
    """`View.to_torch_dataset()`."""
    try:
        import torch
    except ImportError as error:
        raise UnavailableError("to_torch_dataset() needs torch, which is not installed") from error
    return RowDataset(view, torch.from_numpy)


def rows_for(view: View) -> Snapshot:
    """The version of a view at one time, under a tag of its own if there is none and can be."""
    version = version_of(view)
    held = view if isinstance(view, Snapshot) else version.snapshot()
    if version.hub.read_only or (held.tag is not None and held.tag.is_named):
        return held
    message = f"the rows of a dataset of process {os.getpid()}"
    return version.at(version._record(held._held, message))


def version_of(view: View) -> Version:
    """The version that a view shows rows of."""
    if not isinstance(view._table, _store.Table):
        raise InvalidArgumentError(
            f"{view!r} is on a server, and a dataset reads files: make it of download_snapshot()"
        )
    if isinstance(view, Version):
        return view._as_version()
    if isinstance(view, (Snapshot, Partition, SubIndex)):
        return view.version
    raise InvalidArgumentError(f"{view!r} has no rows of its own: make it of download_snapshot()")


def keys_for(view: View, rows: Snapshot) -> KeyArray:
    """The keys of a view, as far as they have rows at that time."""
    if isinstance(view, Partition):
        rows_in_it = rows._now().within((view.name.encode(),))
        return joined(rows_in_it.scan_keys(BATCH_ROWS), rows.key_type)
    keys = (view if isinstance(view, SubIndex) else rows).keys()
    return keys[rows._now().births(rows._pack(keys)) != 0] if isinstance(view, SubIndex) else keys


def let_go(version: Version, tag: str, pid: int) -> None:
    """Expire the snapshot that was recorded for a dataset of this process."""
    if os.getpid() != pid:
        return
    # Else somebody expired it before, or it is there until somebody does.
    with suppress(ClosedError, NotFoundError, ReadOnlyError):
        version.untag(tag)
