"""How many rows a message carries: those that a write sets or deletes, those that an answer has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ehub.wire import ehub_pb2 as pb
from ehub.wire import old_clients_pb2 as old
from ehub.wire.chunks import Chunk
from ehub.wire.packing import key_count

__all__ = ["rows_of"]

FLOAT_BYTES = 4
COUNT_BYTES = 8


def written(request: Chunk) -> int:
    """The rows of a batch, or of a piece of one; of "all rows" none are named."""
    return sum(key_count(part.set.keys) + key_count(part.delete) for part in request.parts)


def read(rows: pb.Rows) -> int:
    """The rows of an answer, which has keys, vectors or both."""
    if rows.vectors.dims:
        return len(rows.vectors.values) // (FLOAT_BYTES * rows.vectors.dims)
    return key_count(rows.keys)


def one(message: Any) -> int:
    """A row in a message of its own."""
    return 1


COUNTS: dict[type[Any], Callable[[Any], int]] = {
    Chunk: written,
    pb.Rows: read,
    pb.SearchResponse: lambda found: len(found.distances) // FLOAT_BYTES,
    pb.AverageResponse: lambda means: len(means.found) // COUNT_BYTES,
    old.SetRequest: one,
    old.MultiSetRequest: one,
    old.DeleteRequest: one,
    old.MultiDeleteRequest: one,
    old.GetResponse: one,
    old.MultiGetResponse: one,
    old.DownloadResponse: one,
    old.NearestNeighborResponse: lambda found: len(found.keys),
}


def rows_of(message: Any) -> int:
    """How many rows a message carries."""
    count = COUNTS.get(type(message))
    return 0 if count is None else count(message)
