"""Filling a new version from an old one: which keys are still to be embedded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ehub import _arrays
from ehub._progress import bar
from ehub.errors import InvalidArgumentError
from ehub.types import KeyArray

if TYPE_CHECKING:
    from ehub.snapshot import Snapshot
    from ehub.version import Version

__all__ = ["Migration"]

SCAN_ROWS = 65_536


class Migration:
    """The way from one version to another, key by key.

    It keeps nothing of its own: what is missing is what the target does not have yet, or has from
    before the source's row was written. So it can be broken off and gone on with at any time, by
    any process, while the source is written to.
    """

    __slots__ = ("_source", "_target")

    def __init__(self, source: Version, target: Version) -> None:
        if source.key_type != target.key_type:
            raise InvalidArgumentError(
                f"keys of version {source.name!r} are {source.key_type}, those of "
                f"{target.name!r} {target.key_type}"
            )
        self._source = source
        self._target = target

    @property
    def source(self) -> Version:
        """Where the keys are from."""
        return self._source

    @property
    def target(self) -> Version:
        """Where they are to be."""
        return self._target

    def missing(
        self, batch: int = 1_000, *, stale: bool = True, progress: bool = False
    ) -> Iterator[KeyArray]:
        """The keys that are still to be written to the target, in arrays of at most `batch`.

        The source is looked at as it is now; what is written to the target meanwhile counts from
        the next array on.

        Args:
            batch: The most keys at a time, up to 16,777,216.
            stale: Also those that the source has a newer row of than the target.
            progress: Show a bar if standard error is a terminal: over all keys of the source.
        """
        rows_max = _arrays.as_integer(batch, "batch", 1, 1 << 24)
        return self._missing(rows_max, stale, progress)

    def _missing(self, batch: int, stale: bool, progress: bool) -> Iterator[KeyArray]:
        title = f"migrate {self._source.name} to {self._target.name}"
        with (
            self._source.snapshot() as source,
            bar(progress, len(source), "row", title) as shown,
        ):
            for keys in source._now().scan_keys(SCAN_ROWS):
                for begin in range(0, len(keys), batch):
                    part = keys[begin : begin + batch]
                    # Looked at again for each array: the one before may have been written.
                    left = part[self._is_missing(source, part, stale)]
                    if len(left):
                        yield left
                    shown.update(len(part))

    def _is_missing(self, source: Snapshot, keys: KeyArray, stale: bool) -> NDArray[np.bool_]:
        target = self._target
        born = target._now().births(target._pack(keys))
        since = source._now().births(target._pack(keys)) if stale else np.ones_like(born)
        return np.less(born, since)

    def coverage(self, *, stale: bool = True) -> float:
        """The share of the source's keys that need not be written any more; 1 for no keys."""
        total = missing = 0
        with self._source.snapshot() as source:
            for keys in source._now().scan_keys(SCAN_ROWS):
                total += len(keys)
                missing += int(self._is_missing(source, keys, stale).sum())
        return 1.0 if total == 0 else 1.0 - missing / total

    def __repr__(self) -> str:
        return f"<ehub.Migration from {self._source!r} to {self._target!r}>"
