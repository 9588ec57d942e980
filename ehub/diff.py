"""What changed between two points in time or two views: keys, and how far vectors moved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ehub._native import _store
from ehub._progress import bar
from ehub.errors import DimensionError, InvalidArgumentError
from ehub.snapshot import Snapshot
from ehub.types import KeyArray, Vectors
from ehub.view import View

__all__ = ["Diff", "diff_of"]

# Vectors that are compared at a time.
CHUNK_ROWS = 16_384

QUANTILES = (0.0, 0.5, 0.9, 0.99, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Diff:
    """Keys of the later view that the earlier has not, the other way round, and of both.

    `changed` are the keys whose vectors differ; for each of them, in the same order, `cosine` is
    1 - cos of the two vectors (NaN if one is zero) and `l2` their Euclidean distance.
    """

    added: KeyArray
    removed: KeyArray
    changed: KeyArray
    cosine: NDArray[np.float32]
    l2: NDArray[np.float32]

    def __bool__(self) -> bool:
        return bool(len(self.added) or len(self.removed) or len(self.changed))

    def quantiles(self) -> dict[str, dict[str, float]]:
        """How far the changed vectors moved: least, median, 90 %, 99 %, most, by measure."""
        shifts = {"cosine": self.cosine, "l2": self.l2}
        return {
            name: {f"{q:g}": float(np.nanquantile(values, q)) for q in QUANTILES}
            for name, values in shifts.items()
            if len(values) and not np.isnan(values).all()
        }

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain values."""
        return {
            "added": self.added.tolist(),
            "removed": self.removed.tolist(),
            "changed": self.changed.tolist(),
            "cosine": self.cosine.tolist(),
            "l2": self.l2.tolist(),
        }

    def __repr__(self) -> str:
        return (
            f"<ehub.Diff {len(self.added):,} added, {len(self.removed):,} removed, "
            f"{len(self.changed):,} changed>"
        )


def diff_of(before: View, after: View, progress: bool) -> Diff:
    """What `after` has that `before` has not, and the other way round."""
    if before.key_type != after.key_type:
        raise InvalidArgumentError(
            f"keys of {before!r} are {before.key_type}, those of {after!r} {after.key_type}; "
            "they cannot be the same"
        )
    if before.dims != after.dims:
        raise DimensionError(
            f"{before!r} has {before.dims} dims, {after!r} {after.dims}: their vectors cannot be "
            "subtracted; compare() compares what is near to what"
        )
    old, new = keys_to_compare(before, after)
    removed, added, common = split(old, new)
    return with_shifts(before, after, added, removed, common, progress)


def keys_to_compare(before: View, after: View) -> tuple[KeyArray, KeyArray]:
    """All keys of both; of two times of one version, those whose rows are not the same."""
    if not (isinstance(before, Snapshot) and isinstance(after, Snapshot)):
        return before.keys(), after.keys()
    if before._table.id != after._table.id:
        return before.keys(), after.keys()
    return _store.changed_keys(before._held, after._held)


def split(old: KeyArray, new: KeyArray) -> tuple[KeyArray, KeyArray, KeyArray]:
    """Keys that only the first has, that only the second has, and that both have."""
    left, right = set(old.tolist()), set(new.tolist())
    kept = np.fromiter((key in right for key in old.tolist()), np.bool_, len(old))
    fresh = np.fromiter((key not in left for key in new.tolist()), np.bool_, len(new))
    return old[~kept], new[fresh], old[kept]


def with_shifts(
    before: View,
    after: View,
    added: KeyArray,
    removed: KeyArray,
    common: KeyArray,
    progress: bool,
) -> Diff:
    """The rows of keys that both have, compared."""
    differs = np.zeros(len(common), np.bool_)
    cosine = np.zeros(len(common), np.float32)
    l2 = np.zeros(len(common), np.float32)
    with bar(progress, len(common), "row", "diff") as shown:
        for begin in range(0, len(common), CHUNK_ROWS):
            part = slice(begin, begin + CHUNK_ROWS)
            old, new = before.multiget(common[part]), after.multiget(common[part])
            differs[part] = (old != new).any(axis=1)
            cosine[part], l2[part] = shifts(old, new)
            shown.update(len(old))
    return Diff(added, removed, common[differs], cosine[differs], l2[differs])


def shifts(old: Vectors, new: Vectors) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """1 - cos and the Euclidean distance of each pair of rows, in float64."""
    a, b = old.astype(np.float64), new.astype(np.float64)
    norms = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = 1.0 - (a * b).sum(axis=1) / norms
    return np.maximum(cosine, 0.0), np.sqrt(((a - b) ** 2).sum(axis=1))
