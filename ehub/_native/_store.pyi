# The store as Python objects. Only the facade calls this: nothing here coerces, and what does not
# fit is an error that is meant for us. Every call that may wait or compute does so without the GIL.
# All objects may be shared by threads.

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal, TypeVar, final

import numpy as np
from numpy.typing import NDArray

KeyArray = NDArray[np.int64] | NDArray[np.object_]
Batch = TypeVar("Batch")
_Notes = dict[str, str] | dict[str, None] | dict[str, str | None]

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
        old_searches_min: int | None = None,
    ) -> None: ...
    # `M` and what follows: src/hnsw/graph.h.
    # `notes` here and below: changes that are part of the same batch; None removes a note.
    def create_version(
        self,
        space: str,
        version: str,
        dims: int,
        metric: str,
        key_type: str,
        M: int = 24,
        ef_construction: int = 100,
        ef: int = 0,
        target_recall: float = 0.95,
        notes: _Notes | None = None,
    ) -> Table: ...
    # The version "initial", or else the oldest.
    def get_space(self, name: str) -> Table: ...
    # `as_space`: its place is that of the space, as get_space() has it.
    def get_version(self, space: str, version: str, *, as_space: bool = False) -> Table: ...
    def spaces(self) -> list[str]: ...
    # Oldest first.
    def versions(self, space: str) -> list[Table]: ...
    def delete_space(self, name: str, notes: _Notes | None = None) -> None: ...
    def note(self, name: str) -> str | None: ...
    def notes(self, prefix: str) -> dict[str, str]: ...
    def set_notes(self, notes: _Notes) -> None: ...
    # Another number whenever notes or versions have changed.
    @property
    def names_changes(self) -> int: ...
    def sync(self) -> None: ...
    # What is given a Stop ends soon once it is set; segments stay as they are, then.
    def checkpoint(self, stop: Stop | None = None) -> None: ...
    def refresh(self) -> None: ...
    # Files, bytes and rows read, and findings as (path, what).
    def verify(self, stop: Stop | None = None) -> tuple[int, int, int, list[tuple[str, str]]]: ...
    # The fields of WriteStats in src/store/store.h. Of durations: how many took at most so many
    # seconds, and all seconds together (src/base/durations.h).
    def write_stats(self) -> dict[str, Any]: ...
    # The fields of WorkStats in src/store/store.h.
    def work_stats(self) -> dict[str, int]: ...
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

# Rows that are stored of keys, dead ones included: (rows, live ones, tags that show some, leases of
# the version, numbers of segments). How many of some different keys none of the versions has a row
# of. And every key of which a row is stored.
_Stored = tuple[int, int, list[str], int, list[int]]

def stored_rows(table: Table, keys: Keys) -> _Stored: ...
def missing_keys(store: Store, tables: list[Table], keys: Keys) -> int: ...
def stored_keys(table: Table) -> list[Any]: ...

# The names of manifests that reader processes hold.
def held_manifests(store: Store) -> list[str]: ...

# What an erasure did: per part what was stored; the files written and removed, as (path, bytes,
# CRC-32C); those held by readers; whether nothing is left to do.
_FileRecords = list[tuple[str, int, int]]
_Erased = tuple[list[_Stored], _FileRecords, _FileRecords, list[str], bool]

# Per version its keys, and whether all dead rows go, too. Raises ConflictError. The notes change in
# the same step.
def erase(
    store: Store, parts: list[tuple[Table, Keys, bool]], notes: _Notes | None = None
) -> _Erased: ...
def finish_erasure(store: Store) -> _Erased: ...

# What a store that was opened to be read sees, as files: the manifest's number, seq, hash seed,
# what CURRENT says, and the files as (path below the hub, bytes that count, bytes of a row or 0,
# segment or 0, stamp of the contents or "", whether it can be built again). They stay until it is
# refreshed or closed.
_StoredFiles = tuple[int, int, int, bytes, list[tuple[str, int, int, int, str, bool]]]

def stored_files(store: Store) -> _StoredFiles: ...

# What is damaged, as (path, what), of the manifest and these sealed segments.
def damage_of(store: Store, segments: set[int]) -> list[tuple[str, str]]: ...

# Rows kept, rows dropped, batches dropped, and what was done as (path, what).
def repair(path: str) -> tuple[int, int, int, list[tuple[str, str]]]: ...

# A space's handle. It is of no more use once its space is deleted (NotFoundError) or its hub closed
# (ClosedError).
@final
class Table:
    @property
    def store(self) -> Store: ...
    # Of all versions of the hub, for ever.
    @property
    def id(self) -> int: ...
    @property
    def space(self) -> str: ...
    @property
    def version(self) -> str: ...
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
    # `vectors`: float32[len(keys), dims]. `row_partitions`: per row an index into `partitions`, or
    # _arrays.NO_PARTITION; None: all the first one. `gone`: other keys, which the same batch
    # deletes. `derived`: can be made again from other rows, so nobody waits until it is durable.
    def multiset(
        self,
        keys: Keys,
        vectors: NDArray[np.float32],
        partitions: tuple[bytes, ...] = (),
        row_partitions: NDArray[np.uint32] | None = None,
        notes: _Notes | None = None,
        gone: Keys | None = None,
        derived: bool = False,
        stop: Stop | None = None,
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
    def multidelete(
        self, keys: Keys, notes: _Notes | None = None, *, derived: bool = False
    ) -> int: ...
    def delete_all(self, notes: _Notes | None = None) -> int: ...
    # The same of what is in these partitions then.
    def multidelete_within(
        self, keys: Keys, partitions: tuple[bytes, ...], notes: _Notes | None = None
    ) -> int: ...
    def delete_all_within(
        self, partitions: tuple[bytes, ...], notes: _Notes | None = None
    ) -> int: ...
    def compact(self, stop: Stop | None = None) -> None: ...
    def wait_indexed(self, stop: Stop | None = None) -> None: ...
    def optimize(self, stop: Stop | None = None) -> None: ...
    # The fields of IndexStats in src/store/store.h.
    def index_stats(self) -> dict[str, Any]: ...
    def row_count(self) -> int: ...
    # Visible rows, and per segment (id, rows, dead rows, bytes).
    def stats(self) -> tuple[int, list[tuple[int, int, int, int]]]: ...
    # Those that rows were ever given, by number - 1.
    def partition_names(self) -> list[str]: ...
    # What errors call it: "version 'x' of space 'y'", or the space alone if that was asked for.
    @property
    def place(self) -> str: ...
    # Every batch that was acknowledged. `place` is for messages, if it is not that of the table.
    def view(self, place: str | None = None) -> View: ...
    @property
    def frozen(self) -> bool: ...
    def freeze(self, notes: _Notes | None = None) -> None: ...
    def drop(self, notes: _Notes | None = None) -> None: ...
    def snapshot(self, place: str | None = None) -> Snapshot: ...
    def at(self, tag: str) -> Snapshot: ...
    # The seq of each.
    def tags(self) -> dict[str, int]: ...
    # `snapshot`: of this version; None: now.
    def set_tag(
        self, tag: str, snapshot: Snapshot | None = None, notes: _Notes | None = None
    ) -> None: ...
    def remove_tag(self, tag: str, notes: _Notes | None = None) -> None: ...
    def restore(self, snapshot: Snapshot, notes: _Notes | None = None) -> None: ...
    def fork(self, snapshot: Snapshot, version: str, notes: _Notes | None = None) -> Table: ...
    # The rows whose keys are those of another table of the hub. It is given graphs from then on.
    def subindex(self, keys: Table) -> SubIndex: ...

# The rows of a table that have the keys of another.
@final
class SubIndex:
    # As of now. `place` is for messages: "sub-index 'x' of space 'y'".
    def view(self, place: str) -> View: ...

# One batch over several versions of a hub, of each what multiset() takes. `bounds`: for each the
# partitions in which keys that are there must be, or a ConflictError; None: they may be anywhere.
def multiset_all(
    parts: list[
        tuple[Table, Keys, NDArray[np.float32], tuple[bytes, ...], NDArray[np.uint32] | None]
    ],
    notes: _Notes | None = None,
    bounds: list[tuple[bytes, ...] | None] | None = None,
) -> None: ...

# A point in time that is held until it is closed (ClosedError after that).
@final
class Snapshot:
    def view(self) -> View: ...
    def close(self) -> None: ...
    @property
    def closed(self) -> bool: ...

# Of two snapshots of one version: the keys of rows that only the first shows, and only the second.
def changed_keys(then: Snapshot, now: Snapshot) -> tuple[KeyArray, KeyArray]: ...

# The keys of one call, as the engine reads them: for that one call, in one thread. They own what
# they point to.
@final
class Keys:
    def __len__(self) -> int: ...
    # As they travel: of str keys their UTF-8 in one piece, and the bytes of each, little-endian
    # uint16; of int keys little-endian int64, and nothing.
    def packed(self) -> tuple[bytes, bytes]: ...
    # `space` is for the message of an InvalidKeyError, which names the position.
    @staticmethod
    def of_objects(keys: Iterable[Any], key_type: str, space: str) -> Keys: ...
    # The same of many lists and tuples, one after the other; and where each begins, the last one
    # ending where there would be one more: uint64.
    @staticmethod
    def of_groups(
        groups: list[Any], key_type: str, space: str
    ) -> tuple[Keys, NDArray[np.uint64]]: ...
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

# What ends a call that was given it, with a DeadlineError, once any thread has set it.
@final
class Stop:
    def set(self) -> None: ...

# A space at one point in time. It holds on to its files, not to its hub.
@final
class View:
    @property
    def seq(self) -> int: ...
    def row_count(self) -> int: ...
    # One key is given as it is, as to a Table.
    def get(self, key: Any, /) -> NDArray[np.float32]: ...
    def contains(self, key: Any, /) -> bool: ...
    # The seq at which each key's row was born, uint64; 0 for missing keys.
    def births(self, keys: Keys) -> NDArray[np.uint64]: ...
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
        stop: Stop | None = None,
    ) -> tuple[KeyArray, NDArray[np.float32], list[int]]: ...
    # Of one query, contiguous float32[dims]: keys and distances.
    def nearest_one(
        self,
        query: NDArray[np.float32],
        k: int,
        distance_max: float,
        ef: int,
        exact: bool,
        stop: Stop | None = None,
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
        stop: Stop | None = None,
    ) -> tuple[KeyArray, NDArray[np.float32], list[int]]: ...
    # The links of the graph that has all rows of the view and no others, if there is one: a copy as
    # _hnsw.build_links() would make it, the rows in the order of a scan.
    def graph(self) -> NDArray[np.uint32] | None: ...
    # Around a vector, float32[1, dims], that was made of these rows, which are not in the answer:
    # keys and distances.
    def recommend(
        self,
        queries: NDArray[np.float32],
        examples: Keys,
        k: int,
        distance_max: float,
        filter: Filter | None = None,
        ef: int = 0,
        exact: bool = False,
        stop: Stop | None = None,
    ) -> tuple[KeyArray, NDArray[np.float32]]: ...
    # The rows that are in one of these partitions, by names in UTF-8; NotFoundError if no row ever
    # was in one.
    def within(self, partitions: tuple[bytes, ...]) -> View: ...
    def partitions(self) -> dict[str, int]: ...
    # Of groups of keys, group i being keys[begins[i]:begins[i + 1]]: their means float32[g, dims],
    # how many keys each has, and its MeanState (src/store/group_average.h).
    def averages(
        self,
        keys: Keys,
        begins: NDArray[np.uint64],
        weights: NDArray[np.float64] | None = None,
        normalize: bool = False,
        skips_missing: bool = False,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.uint8]]: ...
    # The names of all partitions, and the same of each of them.
    def partition_averages(
        self, normalize: bool = False
    ) -> tuple[list[str], NDArray[np.float32], NDArray[np.int64], NDArray[np.uint8]]: ...
    # Rows drawn (all, if `sample` is 0) and their first centroids; InvalidArgumentError for fewer
    # rows than k.
    def kmeans(self, k: int, seed: int, sample: int = 0) -> KMeans: ...

# A k-means that is being computed, by one thread at a time.
@final
class KMeans:
    # How many rows changed their cluster.
    def step(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def inertia(self) -> float: ...
    def centroids(self) -> NDArray[np.float32]: ...
    def counts(self) -> NDArray[np.int64]: ...

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

# CRC-32C of the bytes of vectors, behind those whose checksum is `crc`.
def checksum(vectors: NDArray[np.float32], crc: int = 0) -> int: ...

# The instruction set in use: "scalar", "sse41", "avx2", "avx512" or "neon".
def simd() -> str: ...
