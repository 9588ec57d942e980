"""A map between the vectors of two models, by which queries of one search the index of another."""

from __future__ import annotations

import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ehub import _arrays
from ehub.errors import (
    CorruptionError,
    DimensionError,
    FormatError,
    InvalidArgumentError,
    InvalidVectorError,
)
from ehub.estimate import Estimate
from ehub.types import Metric, Vectors

__all__ = ["Alignment", "ViewInfo"]

FORMAT = "ehub-alignment"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class ViewInfo:
    """What must be known of a view to map vectors from it or to it."""

    name: str
    dims: int
    metric: Metric


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """A linear map from the vectors of one view (the source) to those of another (the target).

    `ehub.align()` fits it. `target.nearest_neighbors(10, vector=q, via=alignment)` then takes a
    query of the source's model. A query q becomes `q @ matrix + offset`, after it was scaled to
    length 1 if source or target have the metric "cosine".

    Attributes:
        source: The view whose model the queries are of.
        target: The view that is searched.
        matrix: float64[source.dims, target.dims]: a rotation, or the part of one that fits where
            the dims differ; times a scale, but for a target under "cosine".
        offset: float64[target.dims]; zeros, but for a target under "l2".
        rank: How many directions the map keeps. Those that the fitted keys say nothing about are
            dropped; so with fewer keys than dims it is below the smaller dims.
        fitted: The number of keys that it was fitted on.
        recall: recall@k on keys that it was not fitted on: the share of the k nearest rows to a
            key's own vector in the target that the key's mapped vector finds there.
        k: That k.
    """

    source: ViewInfo
    target: ViewInfo
    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]
    rank: int
    fitted: int
    recall: Estimate
    k: int

    def map(self, vectors: Any) -> Vectors:
        """float32[n, source.dims] as float32[n, target.dims]."""
        rows = _arrays.as_vectors(vectors, self.source.dims, self.source.name, "query vector")
        mapped = self.map_rows(rows.astype(np.float64))
        if self.target.metric == "cosine":
            self._require_directions(mapped)
        return _arrays.as_float32(mapped, "mapped query vector")

    def map_one(self, vector: Any) -> Vectors:
        """float32[source.dims] as float32[target.dims]."""
        row = _arrays.as_vector(vector, self.source.dims, self.source.name)
        mapped: Vectors = self.map(row[np.newaxis])[0]
        return mapped

    def map_rows(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same in float64, without checks; a row without a direction stays without."""
        if self.normalizes:
            rows = unit_rows(rows)
        return rows @ self.matrix + self.offset

    @property
    def normalizes(self) -> bool:
        """Whether only the direction of a query counts."""
        return "cosine" in (self.source.metric, self.target.metric)

    def require_target(self, name: str, dims: int, metric: Metric) -> None:
        """Refuse to search a view that the map does not lead to."""
        if dims != self.target.dims:
            raise DimensionError(
                f"via= maps to the {self.target.dims} dims of {self.target.name!r:.100}; "
                f"{name!r:.100} has {dims}"
            )
        if metric != self.target.metric:
            raise InvalidArgumentError(
                f"via= was fitted for the metric {self.target.metric!r} of "
                f"{self.target.name!r:.100}; {name!r:.100} has {metric!r}: fit another with "
                "ehub.align()"
            )

    def _require_directions(self, mapped: NDArray[np.float64]) -> None:
        without = np.flatnonzero(np.linalg.norm(mapped, axis=1) == 0)
        if len(without):
            raise InvalidVectorError(
                f"query vector {without[0]} is mapped to zero, which has no direction: it has no "
                f"share in the {self.rank} directions that the alignment was fitted on"
            )

    # --- files ---

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it into an .npz file, in place of an older one, at once or not at all."""
        about = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "source": [self.source.name, self.source.dims, self.source.metric],
            "target": [self.target.name, self.target.dims, self.target.metric],
            "rank": self.rank,
            "fitted": self.fitted,
            "k": self.k,
            "recall": self.recall.to_dict(),
        }
        final = Path(path)
        temporary = final.with_name(f".{final.name}.{os.getpid()}")
        try:
            with temporary.open("wb") as file:
                np.savez(file, about=json.dumps(about), matrix=self.matrix, offset=self.offset)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Alignment:
        """Read what `save()` wrote, and check it.

        Raises:
            FormatError: It is no alignment, or one of a later release.
            CorruptionError: It is damaged.
        """
        about, matrix, offset = read_file(path)
        try:
            alignment = cls(
                ViewInfo(*about["source"]),
                ViewInfo(*about["target"]),
                matrix,
                offset,
                about["rank"],
                about["fitted"],
                Estimate(**about["recall"]),
                about["k"],
            )
        except (KeyError, TypeError) as error:
            raise CorruptionError(
                f"{os.fspath(path)}: what it says of itself lacks {error}"
            ) from None
        alignment._require_sound(os.fspath(path))
        return alignment

    def _require_sound(self, path: str) -> None:
        metrics = get_args(Metric)
        shape = (self.source.dims, self.target.dims)
        checks = {
            "the metrics": self.source.metric in metrics and self.target.metric in metrics,
            "the matrix's shape": self.matrix.shape == shape,
            "the offset's shape": self.offset.shape == shape[1:],
            "the type of the numbers": self.matrix.dtype == self.offset.dtype == np.float64,
        }
        wrong = [what for what, good in checks.items() if not good]
        if not wrong and not (np.isfinite(self.matrix).all() and np.isfinite(self.offset).all()):
            wrong = ["a number that is not finite"]
        if wrong:
            raise CorruptionError(f"{path}: wrong in this alignment: {', '.join(wrong)}")

    def __repr__(self) -> str:
        return (
            f"<ehub.Alignment {self.source.name!r} ({self.source.dims} dims) -> "
            f"{self.target.name!r} ({self.target.dims} dims, {self.target.metric}) "
            f"recall@{self.k}={self.recall}>"
        )


def unit_rows(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows scaled to length 1; zeros stay zeros."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    units: NDArray[np.float64] = np.divide(
        rows, lengths, out=np.zeros_like(rows), where=lengths > 0
    )
    return units


def read_file(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], NDArray[np.float64], NDArray[np.float64]]:
    """The parts of an alignment's file; the archive has a checksum of each."""
    import zipfile  # not before it is needed: it takes megabytes

    name = os.fspath(path)
    content = io.BytesIO(Path(path).read_bytes())
    if not zipfile.is_zipfile(content):
        raise FormatError(f"{name}: no alignment: not an .npz file, or cut short")
    try:
        with zipfile.ZipFile(content) as archive:
            damaged = archive.testzip()  # before an array is made of what a bad header says
        content.seek(0)
        with np.load(content, allow_pickle=False) as file:
            parts = {} if damaged else {part: file[part] for part in file.files}
    except MemoryError:
        raise
    except Exception as error:  # damaged bytes make the readers raise errors of any kind
        raise CorruptionError(f"{name}: {error}") from None
    if damaged:
        raise CorruptionError(f"{name}: the checksum of its part {damaged!r} is wrong")
    if set(parts) != {"about", "matrix", "offset"}:
        raise FormatError(f"{name}: no alignment: an .npz file with {sorted(parts)}")
    try:
        about = json.loads(str(parts["about"]))
    except json.JSONDecodeError as error:
        raise CorruptionError(f"{name}: {error}") from None
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise FormatError(f"{name}: no alignment of ehub")
    if about.get("version") != FORMAT_VERSION:
        raise FormatError(
            f"{name}: an alignment of format {about.get('version')}; this release reads "
            f"{FORMAT_VERSION}"
        )
    return about, parts["matrix"], parts["offset"]
