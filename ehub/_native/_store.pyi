# The store as Python objects. Only the facade calls this: nothing here coerces, and what does not
# fit is an error that is meant for us. Every call that may wait or compute does so without the GIL.
# All objects may be shared by threads.

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeVar, final

import numpy as np
from numpy.typing import NDArray

KeyArray = NDArray[np.int64] | NDArray[np.object_]
Batch = TypeVar("Batch")

# An open hub. Closing it twice is fine; when the last object that came of it goes, it closes
# itself.
@final
class Store:
    # Raises LockedError, NotFoundError (read-only and missing), CorruptionError, FormatError,
    # StorageError. The limits have the right values for nearly all; tests shrink them to meet every
    # boundary (src/store/store.h).
    def __init__(
        self,
        path: str,
        *,
        read_only: bool = False,
        durability: str = "full",
        background: bool = True,
        large_batch_bytes: int | None = None,
        log_bytes_max: int | None = None,
        fresh_rows_max: int | None = None,
        segment_bytes_max: int | None = None,
        carry_bytes_max: int | None = None,
        carry_total_bytes_max: int | None = None,
        graph_rows_min: int | None = None,
    ) -> None: ...
    # `M` and what follows: src/hnsw/graph.h.
    def create_space(
        self,
        name: str,
        dims: int,
        metric: str,
        key_type: str,
        M: int = 24,
        ef_construction: int = 100,
        ef: int = 0,
        target_recall: float = 0.95,
    ) -> Table: ...
    def get_space(self, name: str) -> Table: ...
    def spaces(self) -> list[str]: ...
    def delete_space(self, name: str) -> None: ...
    def sync(self) -> None: ...
    def checkpoint(self) -> None: ...
    def refresh(self) -> None: ...
    # Files, bytes and rows read, and findings as (path, what).
    def verify(self) -> tuple[int, int, int, list[tuple[str, str]]]: ...
    def close(self) -> None: ...
    @property
    def path(self) -> str: ...
    @property
    def closed(self) -> bool: ...
    @property
    def read_only(self) -> bool: ...
    # Of the last batch that readers see.
    @property
    def seq(self) -> int: ...

# Rows kept, rows dropped, batches dropped, and what was done as (path, what).
def repair(path: str) -> tuple[int, int, int, list[tuple[str, str]]]: ...

# A space's handle. It is of no more use once its space is deleted (NotFoundError) or its hub closed
# (ClosedError).
@final
class Table:
    @property
    def store(self) -> Store: ...
    @property
    def space(self) -> str: ...
    @property
    def dims(self) -> int: ...
    @property
    def metric(self) -> Literal["cosine", "l2", "ip"]: ...
    @property
    def key_type(self) -> Literal["str", "int"]: ...
    # Of its graphs (src/hnsw/graph.h).
    @property
    def M(self) -> int: ...
    @property
    def ef_construction(self) -> int: ...
    # One key is given as it is: InvalidKeyError if it cannot be one of this space's.
    def get(self, key: Any, /) -> NDArray[np.float32]: ...
    def contains(self, key: Any, /) -> bool: ...
    # `values`: contiguous float32[dims]. `partition`: UTF-8.
    def set(
        self, key: Any, values: NDArray[np.float32], partition: bytes | None = None, /
    ) -> None: ...
    def delete(self, key: Any, /) -> None: ...
    # `vectors`: float32[len(keys), dims]. `row_partitions`: per row an index into `partitions`;
    # None: all the first one.
    def multiset(
        self,
        keys: Keys,
        vectors: NDArray[np.float32],
        partitions: tuple[bytes, ...] = (),
        row_partitions: NDArray[np.uint32] | None = None,
    ) -> None: ...
    # Different keys, and links among them: those of row i are targets[begins[i]:begins[i + 1]], as
    # numbers of rows. One batch. True if they became the graph of the space, which then was not
    # built; else the rows are there all the same.
    def multiset_linked(
        self,
        keys: Keys,
        vectors: NDArray[np.float32],
        begins: NDArray[np.uint64],
        targets: NDArray[np.uint32],
    ) -> bool: ...
    # How many rows there were.
    def multidelete(self, keys: Keys) -> int: ...
    def delete_all(self) -> int: ...
    def compact(self) -> None: ...
    def wait_indexed(self) -> None: ...
    def optimize(self) -> None: ...
    # The fields of IndexStats in src/store/store.h.
    def index_stats(self) -> dict[str, Any]: ...
    def row_count(self) -> int: ...
    # Visible rows, and per segment (id, rows, dead rows, bytes).
    def stats(self) -> tuple[int, list[tuple[int, int, int, int]]]: ...
    def partitions(self) -> dict[str, int]: ...
    # Every batch that was acknowledged.
    def view(self) -> View: ...

# The keys of one call, as the engine reads them: for that one call, in one thread. They own what
# they point to.
@final
class Keys:
    def __len__(self) -> int: ...
    # `space` is for the message of an InvalidKeyError, which names the position.
    @staticmethod
    def of_objects(keys: Iterable[Any], key_type: str, space: str) -> Keys: ...
    # Contiguous int64, copied.
    @staticmethod
    def of_integers(keys: NDArray[np.int64]) -> Keys: ...
    # Key i is data[offsets[i]:offsets[i + 1]], valid UTF-8, copied.
    @staticmethod
    def of_utf8(offsets: NDArray[np.int64], data: NDArray[np.uint8]) -> Keys: ...

# Takes pairs of key and vector off an iterator until `vectors` is full; returns the keys. What is
# not contiguous float32[dims] goes through `as_vector(vector, row)` first, `first` being the number
# of the first row.
def read_pairs(
    pairs: Iterator[tuple[Any, Any]],
    first: int,
    vectors: NDArray[np.float32],
    as_vector: Callable[[Any, int], NDArray[np.float32]],
) -> list[Any]: ...

# A space at one point in time. It holds on to its files, not to its hub.
@final
class View:
    @property
    def seq(self) -> int: ...
    def row_count(self) -> int: ...
    # NotFoundError names the first missing key.
    def multiget(self, keys: Keys) -> NDArray[np.float32]: ...
    # Zeros for missing keys, and which were found.
    def multiget_found(self, keys: Keys) -> tuple[NDArray[np.float32], NDArray[np.bool_]]: ...
    # Batches of at most `batch_rows`, in storage order; ClosedError once the hub is closed.
    def scan(self, batch_rows: int) -> Cursor[tuple[KeyArray, NDArray[np.float32]]]: ...
    def scan_keys(self, batch_rows: int) -> Cursor[KeyArray]: ...
    # The rows with these keys, as far as there are any.
    def select(self, keys: Keys) -> Filter: ...
    # Of all queries together: keys, distances, and where each query's begin (len(queries) + 1
    # numbers).
    def nearest(
        self,
        queries: NDArray[np.float32],
        k: int,
        distance_max: float,
        filter: Filter | None = None,
        ef: int = 0,
        exact: bool = False,
    ) -> tuple[KeyArray, NDArray[np.float32], list[int]]: ...
    # Of one query, contiguous float32[dims]: keys and distances.
    def nearest_one(
        self, query: NDArray[np.float32], k: int, distance_max: float, ef: int, exact: bool
    ) -> tuple[KeyArray, NDArray[np.float32]]: ...
    # Around stored keys, which are not among their own neighbors.
    def nearest_to(
        self,
        keys: Keys,
        k: int,
        distance_max: float,
        filter: Filter | None = None,
        ef: int = 0,
        exact: bool = False,
    ) -> tuple[KeyArray, NDArray[np.float32], list[int]]: ...
    # The links of the graph that has all rows of the view and no others, if there is one: a copy as
    # _hnsw.build_links() would make it, the rows in the order of a scan.
    def graph(self) -> NDArray[np.uint32] | None: ...
    def weighted_sum(
        self, keys: Keys, weights: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]: ...

@final
class Filter:
    @property
    def row_count(self) -> int: ...

# Each batch goes to one of the threads that share a cursor.
@final
class Cursor(Iterator[Batch]):
    def __iter__(self) -> Cursor[Batch]: ...
    def __next__(self) -> Batch: ...

# Vectors where they lie in the store: a read-only buffer float32[n, dims].
@final
class Rows:
    def __buffer__(self, flags: int, /) -> memoryview: ...

# The instruction set in use: "scalar", "sse41", "avx2", "avx512" or "neon".
def simd() -> str: ...
