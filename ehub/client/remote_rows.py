"""The rows of a server's hub, asked for as the engine is asked: what the facade reads through.

Each class here has the methods of its namesake in `ehub._native._store`, with the same meaning, and
makes calls of them. So `View`, `Version` and `Partition` work over a server as they are. Every call
shows one state; two calls on the rows "as of now" may show two.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ehub._native._store import Keys
from ehub.client.link import Link
from ehub.client.search_parts import Answers, Asked, in_parts
from ehub.errors import ClosedError, EhubError, InvalidKeyError, NotFoundError
from ehub.kmeans import KMeans
from ehub.types import KeyArray, KeyType, Vectors
from ehub.wire import ehub_pb2 as pb
from ehub.wire.packing import (
    array_of,
    joined_rows,
    key_array,
    keys_message,
    message_slice,
    numbers,
    vectors_message,
    vectors_pieces,
    within,
)

__all__ = ["RemoteFilter", "RemoteRows", "RemoteSnapshot", "one_key"]

Batch = TypeVar("Batch")

# Vectors of at most so many bytes are asked for in one message.
ONE_MESSAGE_BYTES = 1 << 20
# What is said of the first of several missing keys.
ONLY_KEY = " (key 0 of 1)"


class Shared(Iterator[Batch]):
    """The batches of a scan, each for one of the threads that share it."""

    def __init__(self, batches: Iterator[Batch]) -> None:
        self._batches = batches
        self._lock = threading.Lock()

    def __next__(self) -> Batch:
        with self._lock:
            return next(self._batches)


class RemoteFilter:
    """Keys that answers may have, for `RemoteRows.nearest()` and its like."""

    def __init__(self, keys: pb.Keys) -> None:
        self.keys = keys


class RemoteRows:
    """`_store.View`: the rows of a target."""

    def __init__(self, link: Link, target: pb.Target, info: pb.Description, seq: int = 0) -> None:
        self._link = link
        self._target = target
        self._info = info
        self._seq = seq
        self._key_type: KeyType = "int" if info.key_type == "int" else "str"
        # What searches have in common that may be gathered.
        self._common = target.SerializeToString(deterministic=True)

    @property
    def target(self) -> pb.Target:
        """What calls are about."""
        return self._target

    @property
    def seq(self) -> int:
        """The last batch that is shown; 0 is now."""
        return self._seq

    def _keys(self, keys: Keys) -> pb.Keys:
        return keys_message(keys, self._key_type)

    def row_count(self) -> int:
        """How many rows."""
        return int(self._link.read("Count", pb.CountRequest(target=self._target)).count)

    def get(self, key: Any, /) -> Vectors:
        """One vector."""
        packed = one_key(key, self._key_type, self._info.space)
        request = pb.GetRequest(target=self._target, keys=self._keys(packed))
        try:
            vector: Vectors = array_of(self._link.read("Get", request).vectors)[0].copy()
        except NotFoundError as error:
            raise NotFoundError(str(error).removesuffix(ONLY_KEY)) from None
        return vector

    def contains(self, key: Any, /) -> bool:
        """Whether a key is there."""
        return bool(self.births(one_key(key, self._key_type, self._info.space))[0])

    def births(self, keys: Keys) -> NDArray[np.uint64]:
        """The batch that each key's row came with; 0 for missing keys."""
        request = pb.LocateRequest(target=self._target, keys=self._keys(keys))
        return numbers(self._link.read("Locate", request).births, "<u8", "births").copy()

    def multiget(self, keys: Keys) -> Vectors:
        """The vectors of keys that are all there."""
        return self._get(keys, allow_missing=False)[0]

    def multiget_found(self, keys: Keys) -> tuple[Vectors, NDArray[np.bool_]]:
        """Zeros for missing keys, and which were found."""
        return self._get(keys, allow_missing=True)

    def _get(self, keys: Keys, *, allow_missing: bool) -> tuple[Vectors, NDArray[np.bool_]]:
        request = pb.GetRequest(
            target=self._target, keys=self._keys(keys), allow_missing=allow_missing
        )
        if len(keys) * self._info.dims * 4 <= ONE_MESSAGE_BYTES:
            parts = [self._link.read("Get", request)]
        else:
            parts = list(self._link.transport.stream("MultiGet", request))
        found = np.frombuffer(b"".join(part.found for part in parts), np.bool_)
        dims = parts[0].vectors.dims if parts else self._info.dims
        return joined_rows([array_of(part.vectors) for part in parts], dims), found.copy()

    def scan(self, batch_rows: int) -> Iterator[tuple[KeyArray, Vectors]]:
        """Batches of keys and vectors."""
        request = pb.ScanRequest(target=self._target, batch_rows=batch_rows)
        parts = self._link.transport.stream("Scan", request)
        batches = ((key_array(one.keys, self._key_type), array_of(one.vectors)) for one in parts)
        return Shared(regrouped(batches, batch_rows))

    def scan_keys(self, batch_rows: int) -> Iterator[KeyArray]:
        """Batches of keys."""
        request = pb.ScanRequest(target=self._target, batch_rows=batch_rows, keys_only=True)
        parts = self._link.transport.stream("Scan", request)
        return Shared(key_array(one.keys, self._key_type) for one in parts)

    def within(self, partitions: tuple[bytes, ...]) -> RemoteRows:
        """Only the rows of some partitions."""
        target = pb.Target()
        target.CopyFrom(self._target)
        names = target.and_partitions if target.partitions else target.partitions
        names.extend(name.decode() for name in partitions)
        return RemoteRows(self._link, target, self._info, self._seq)

    def partitions(self) -> dict[str, int]:
        """The partitions and their rows."""
        answer = self._link.read("ListPartitions", pb.ListPartitionsRequest(target=self._target))
        return dict(zip(answer.names, answer.rows, strict=True))

    # --- by distance ---

    def select(self, keys: Keys) -> RemoteFilter:
        """The rows with these keys, as far as there are any."""
        return RemoteFilter(self._keys(keys))

    def nearest(
        self,
        queries: Vectors,
        k: int,
        distance_max: float,
        filter: RemoteFilter | None = None,
        ef: int = 0,
        exact: bool = False,
    ) -> Answers:
        """Of all queries together: keys, distances, where each query's begin."""
        options = options_of(k, distance_max, filter, ef, exact)

        def ask(rows: RemoteRows, begin: int, end: int) -> Answers:
            rest = pb.SearchRequest(target=rows.target, options=options).SerializeToString()
            around = vectors_pieces(queries[begin:end])
            return rows._searched(
                b"".join(within(rest, pb.SearchRequest.VECTORS_FIELD_NUMBER, around))
            )

        return self._in_parts(len(queries), options, 4 * self._info.dims, ask)

    def _in_parts(
        self,
        count: int,
        options: pb.SearchOptions,
        query_bytes: int,
        ask: Callable[[Any, int, int], Answers],
    ) -> Answers:
        """The answers to a batch, in as many calls as the server wants them."""
        way = self._link.transport
        batch = Asked(count, options.k, query_bytes, options.ByteSize(), ask)
        return in_parts(self, batch, way.message_bytes, way.rows_max)

    @contextmanager
    def at_one_time(self) -> Iterator[RemoteRows]:
        """The same rows, which do not change meanwhile.

        But for those of a sub-index, which has no snapshots: it is always as of now.
        """
        if self._target.WhichOneof("time") is not None or self._target.subindex:
            yield self
            return
        base = pb.Target()
        base.CopyFrom(self._target)
        for name in ("partitions", "and_partitions"):
            base.ClearField(name)
        # Tried again as any read: what an answer that is lost leaves behind goes by itself, later.
        taken = self._link.read("TakeSnapshot", pb.TakeSnapshotRequest(target=base))
        with ExitStack() as held:
            snapshot = RemoteSnapshot(self._link, taken)
            held.callback(snapshot.let_go)
            if taken.HasField("means"):
                snapshot = RemoteSnapshot(self._link, taken.means)
                held.callback(snapshot.let_go)
            target = pb.Target()
            target.CopyFrom(snapshot.target)
            target.partitions.extend(self._target.partitions)
            target.and_partitions.extend(self._target.and_partitions)
            yield RemoteRows(self._link, target, self._info, taken.seq)

    def nearest_one(
        self, query: Vectors, k: int, distance_max: float, ef: int, exact: bool
    ) -> tuple[KeyArray, Vectors]:
        """Of one query: keys and distances."""
        options = (k, distance_max, ef, exact)
        alone: Any = Alone(self)
        common = (self._common, len(query), options)
        found = self._link.searches.nearest(common, lambda: alone, query, options)
        return found.keys, found.distances

    def one(
        self, query: Vectors, k: int, distance_max: float, ef: int, exact: bool
    ) -> tuple[KeyArray, Vectors]:
        """The same as a call of its own, gathered with no other."""
        request = pb.SearchRequest(target=self._target)
        around, options = request.vectors, request.options
        around.dims, around.values = len(query), np.ascontiguousarray(query, "<f4").tobytes()
        options.k, options.ef, options.exact = k, ef, exact
        if distance_max != math.inf:
            options.max_distance = distance_max
        answer = self._link.read("Search", request)
        distances = numbers(answer.distances, "<f4", "distances").astype(np.float32)
        return key_array(answer.keys, self._key_type), distances

    def nearest_to(
        self,
        keys: Keys,
        k: int,
        distance_max: float,
        filter: RemoteFilter | None = None,
        ef: int = 0,
        exact: bool = False,
    ) -> Answers:
        """Around stored keys."""
        options = options_of(k, distance_max, filter, ef, exact)
        around = self._keys(keys)

        def ask(rows: RemoteRows, begin: int, end: int) -> Answers:
            some = message_slice(around, self._key_type, begin, end)
            return rows._searched(pb.SearchRequest(target=rows.target, keys=some, options=options))

        longest = numbers(around.lengths, "<u2", "lengths").max(initial=0)
        size = 8 if self._key_type == "int" else 2 + int(longest)
        return self._in_parts(len(keys), options, size, ask)

    def _searched(self, request: Any) -> Answers:
        """The answer to a SearchRequest, or to one packed."""
        return self._neighbors(self._link.read("Search", request))

    def recommend(
        self,
        queries: Vectors,
        examples: Keys,
        k: int,
        distance_max: float,
        filter: RemoteFilter | None = None,
        ef: int = 0,
        exact: bool = False,
    ) -> tuple[KeyArray, Vectors]:
        """Around a vector that was made of examples, which are not in the answer."""
        request = pb.RecommendRequest(
            target=self._target,
            query=vectors_message(queries),
            examples=self._keys(examples),
            options=options_of(k, distance_max, filter, ef, exact),
        )
        keys, distances, _ = self._neighbors(self._link.read("Recommend", request))
        return keys, distances

    def _neighbors(self, answer: pb.SearchResponse) -> Answers:
        keys = key_array(answer.keys, self._key_type)
        distances = numbers(answer.distances, "<f4", "distances").astype(np.float32)
        return keys, distances, begins_of(answer.counts)

    def graph(self) -> None:
        """The links of the index do not travel."""

    # --- averages and clusters ---

    def averages(
        self,
        keys: Keys,
        begins: NDArray[np.uint64],
        weights: NDArray[np.float64] | None = None,
        normalize: bool = False,
        skips_missing: bool = False,
    ) -> tuple[Vectors, NDArray[np.int64], NDArray[np.uint8]]:
        """The means of groups of keys, how many each has, and what is wrong with it."""
        request = pb.AverageRequest(
            target=self._target,
            keys=self._keys(keys),
            begins=begins.astype("<u8").tobytes(),
            weights=b"" if weights is None else weights.astype("<f8").tobytes(),
            normalize=normalize,
            allow_missing=skips_missing,
        )
        answer = self._link.read("Average", request)
        return means_of(answer)

    def partition_averages(
        self, normalize: bool = False
    ) -> tuple[list[str], Vectors, NDArray[np.int64], NDArray[np.uint8]]:
        """The same of each partition."""
        request = pb.AveragePartitionsRequest(target=self._target, normalize=normalize)
        answer = self._link.read("AveragePartitions", request)
        return (list(answer.partitions), *means_of(answer))

    def clusters(
        self, k: int, seed: int, iterations: int, sample: int | None, progress: bool
    ) -> KMeans:
        """k-means, all of it; a bar shows the time alone."""
        request = pb.KMeansRequest(
            target=self._target, k=k, seed=seed, iterations=iterations, sample=sample
        )
        with self._link.waiting(progress, "kmeans"):
            answer = self._link.read("KMeans", request)
        return KMeans(
            array_of(answer.centroids).copy(),
            numbers(answer.counts, "<i8", "counts").astype(np.int64),
            answer.inertia,
            answer.rows,
            answer.iterations,
            answer.converged,
        )


class Alone:
    """Rows whose searches are calls, gathered with no others."""

    def __init__(self, rows: RemoteRows) -> None:
        self.nearest = rows.nearest
        self.nearest_one = rows.one


class RemoteSnapshot:
    """`_store.Snapshot`: a time that the server holds."""

    def __init__(self, link: Link, info: pb.SnapshotInfo) -> None:
        self._link = link
        self._info = info
        self.closed = False
        self._target = pb.Target(
            space=info.description.space,
            version=info.description.version,
            version_id=info.description.version_id,
            snapshot=info.snapshot,
        )

    @property
    def target(self) -> pb.Target:
        """What calls are about; a ClosedError when it was let go."""
        if self.closed:
            raise ClosedError("the snapshot is closed")
        return self._target

    def view(self) -> RemoteRows:
        """Its rows."""
        return RemoteRows(self._link, self.target, self._info.description, self._info.seq)

    def close(self) -> None:
        """Let it go; closing twice is fine."""
        self._close(self._link.read)

    def let_go(self) -> None:
        """The same, tried once: if the server is gone, it lets go by itself, later."""
        with suppress(EhubError):
            self._close(self._link.change)

    def _close(self, ask: Callable[[str, Any], Any]) -> None:
        if not self.closed:
            self.closed = True
            ask("CloseSnapshot", pb.CloseSnapshotRequest(target=self._target))


def one_key(key: Any, key_type: KeyType, space: str) -> Keys:
    """A single key, packed."""
    try:
        return Keys.of_objects([key], key_type, space)
    except InvalidKeyError as error:
        raise InvalidKeyError(str(error).replace("key 0", "the key", 1)) from None


def regrouped(
    batches: Iterator[tuple[KeyArray, Vectors]], rows: int
) -> Iterator[tuple[KeyArray, Vectors]]:
    """Batches of `rows` rows, however many there were in each message."""
    held: list[tuple[KeyArray, Vectors]] = []
    count = 0
    for keys, vectors in batches:
        while len(keys) + count >= rows:
            cut = rows - count
            yield together([*held, (keys[:cut], vectors[:cut])])
            keys, vectors, held, count = keys[cut:], vectors[cut:], [], 0
        if len(keys):
            held.append((keys, vectors))
            count += len(keys)
    if held:
        yield together(held)


def together(batches: list[tuple[KeyArray, Vectors]]) -> tuple[KeyArray, Vectors]:
    """Several batches as one; a single one as it is."""
    if len(batches) == 1:
        return batches[0]
    keys: Any = np.concatenate([keys for keys, _ in batches])
    return keys, np.concatenate([vectors for _, vectors in batches])


def options_of(
    k: int, distance_max: float, filter: RemoteFilter | None, ef: int, exact: bool
) -> pb.SearchOptions:
    """The options of a search as they travel."""
    options = pb.SearchOptions(k=k, ef=ef, exact=exact)
    if distance_max != math.inf:
        options.max_distance = distance_max
    if filter is not None:
        options.filter.CopyFrom(filter.keys)
    return options


def begins_of(counts: bytes) -> list[int]:
    """Where each group begins, and where the last one ends."""
    sizes: list[int] = numbers(counts, "<u4", "counts").tolist()
    return list(accumulate(sizes, initial=0))


def means_of(answer: pb.AverageResponse) -> tuple[Vectors, NDArray[np.int64], NDArray[np.uint8]]:
    """The means of an answer, the counts, and the states."""
    return (
        array_of(answer.means).copy(),
        numbers(answer.found, "<i8", "counts").astype(np.int64),
        np.frombuffer(answer.states, np.uint8),
    )
