"""Small values that the API takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Durability",
    "Finding",
    "HubInfo",
    "Key",
    "KeyArray",
    "KeyType",
    "Metric",
    "RepairReport",
    "SegmentStats",
    "SpaceStats",
    "Vectors",
    "VerifyReport",
]

Key: TypeAlias = str | int
KeyType: TypeAlias = Literal["str", "int"]
Metric: TypeAlias = Literal["cosine", "l2", "ip"]
Durability: TypeAlias = Literal["full", "normal", "off"]

# Of int keys int64, of str keys an array of Python strings.
KeyArray: TypeAlias = NDArray[np.int64] | NDArray[np.object_]
Vectors: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SegmentStats:
    """One segment of a space; `id` 0 is one that is still in memory."""

    id: int
    rows: int
    rows_dead: int
    bytes: int


@dataclass(frozen=True, slots=True)
class SpaceStats:
    """How a space lies in the store: `rows` are visible ones, and segments also hold dead ones."""

    rows: int
    segments: tuple[SegmentStats, ...]


@dataclass(frozen=True, slots=True)
class HubInfo:
    """A hub at a glance. `seq` is the number of the last batch that readers see."""

    path: str
    read_only: bool
    spaces: int
    rows: int
    disk_bytes: int
    seq: int


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong with a file, or what was done about it."""

    path: str
    what: str


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What `Hub.verify()` read; without findings, all is well."""

    files: int
    bytes: int
    rows: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What `ehub.repair()` kept, and what it had to leave in `lost+found`.

    `rows_dropped` are rows that were there and are gone, as far as that is known; where `dropped`
    says that their keys are not known, at most. `batches_dropped` are batches of which nothing is
    known: rows that they set are gone, and what they overwrote or deleted shows again.
    """

    rows_kept: int
    rows_dropped: int
    batches_dropped: int
    dropped: tuple[Finding, ...]
