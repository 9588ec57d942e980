# The graph engine's door for arrays: hnswlib's files, and links. Only ehub.hnswlib_io calls this:
# nothing here coerces, and what does not fit is an error that is meant for us. Every call works
# without the GIL.

import numpy as np
from numpy.typing import NDArray

# The rows of a file that hnswlib saved: labels uint64[n], vectors float32[n, dims], links among the
# rows (those of row i are targets[begins[i]:begins[i + 1]]), M and ef_construction. Records marked
# as deleted are left out, and of those with one label all but the last. CorruptionError,
# DimensionError, NotFoundError, StorageError.
def read_hnswlib(
    path: bytes, dims: int
) -> tuple[
    NDArray[np.uint64],
    NDArray[np.float32],
    NDArray[np.uint64],
    NDArray[np.uint32],
    int,
    int,
]: ...

# A graph over at least one vector: uint32[n, at least 2 M], a row's links nearest first, the rest
# filled with the row's own number.
def build_links(
    vectors: NDArray[np.float32], metric: str, M: int, ef_construction: int, threads: int
) -> NDArray[np.uint32]: ...

# `links`: as build_links() makes them. The file appears as a whole.
def write_hnswlib(
    path: bytes,
    labels: NDArray[np.uint64],
    vectors: NDArray[np.float32],
    links: NDArray[np.uint32],
    metric: str,
    M: int,
    ef_construction: int,
    threads: int,
) -> None: ...
