"""Calls that read: by key, all rows, by distance, averages."""

from __future__ import annotations

import math
import os
import struct
import sys
from collections.abc import Callable, Iterator
from functools import partial
from operator import sub
from typing import Any

import numpy as np

from ehub import _arrays
from ehub._native import _store
from ehub.average import as_offsets
from ehub.errors import InvalidArgumentError
from ehub.kmeans import kmeans
from ehub.server.calls import require_active
from ehub.server.config import Limits
from ehub.server.targets import Targets, readable
from ehub.subindex import SubIndex
from ehub.types import KeyType, Vectors
from ehub.view import View, as_batch_rows, search_options
from ehub.wire import ehub_pb2 as pb
from ehub.wire.failures import TOO_MANY
from ehub.wire.packing import (
    floats_of,
    key_count,
    message_slice,
    native_keys,
    numbers,
    pack_array,
    rows_in,
    vectors_message,
)
from ehub.wire.searches import Searches

__all__ = ["Reading", "chunk_keys", "gathered_searches"]

# What a message of a stream has, about: large enough that a message costs little, small enough that
# many streams take little memory, and that a caller who leaves is noticed soon.
CHUNK_BYTES = 1 << 20
KEYS_CHUNK_ROWS = 65_536
KEY_BYTES_MAX = 1_026  # with its length
LITTLE_ENDIAN = sys.byteorder == "little"


class Reading:
    """A part of the servicer (service.py)."""

    _limits: Limits
    _targets: Targets
    _searches: Searches

    # --- by key ---

    def Count(self, request: pb.CountRequest, context: Any) -> pb.CountResponse:
        return pb.CountResponse(count=self._targets.rows(request.target)[1].row_count())

    def Get(self, request: pb.GetRequest, context: Any) -> pb.Rows:
        view, rows = self._targets.rows(request.target)
        self._require_rows(key_count(request.keys), "keys")
        self._require_fits(key_count(request.keys), view, "keys", "MultiGet streams them")
        return rows_of(rows, request.keys, view.key_type, request.allow_missing)

    def MultiGet(self, request: pb.GetRequest, context: Any) -> Iterator[pb.Rows]:
        view, rows = self._targets.rows(request.target)
        total = key_count(request.keys)
        keys = native_keys(request.keys, view.key_type)
        if not request.allow_missing and total:
            born = rows.births(keys)
            if not born.all():
                rows.multiget(keys_slice(request.keys, view.key_type, int(np.argmin(born))))
        count = chunk_rows(view.dims, self._limits.message_bytes)
        for begin in range(0, total, count):
            part = message_slice(request.keys, view.key_type, begin, min(begin + count, total))
            yield rows_of(rows, part, view.key_type, request.allow_missing)

    def Locate(self, request: pb.LocateRequest, context: Any) -> pb.LocateResponse:
        view, rows = self._targets.rows(request.target)
        self._require_rows(key_count(request.keys), "keys")
        born = rows.births(native_keys(request.keys, view.key_type))
        return pb.LocateResponse(births=born.tobytes())

    # --- all rows ---

    def Scan(self, request: pb.ScanRequest, context: Any) -> Iterator[pb.Rows]:
        view, rows = self._targets.rows(request.target)
        wanted = as_batch_rows(request.batch_rows) if request.batch_rows else KEYS_CHUNK_ROWS
        size = self._limits.message_bytes
        wanted = min(wanted, chunk_keys(size))
        if request.keys_only:
            for keys in rows.scan_keys(wanted):
                yield pb.Rows(keys=pack_array(keys))
            return
        for keys, vectors in rows.scan(min(wanted, chunk_rows(view.dims, size))):
            yield pb.Rows(keys=pack_array(keys), vectors=vectors_message(vectors))

    def ListPartitions(self, request: pb.ListPartitionsRequest, context: Any) -> pb.PartitionCounts:
        view, rows = self._targets.rows(request.target)
        lists = readable(request.target, view)
        shown = {name: n for name, n in rows.partitions().items() if is_in(name, lists)}
        return pb.PartitionCounts(names=list(shown), rows=list(shown.values()))

    # --- by distance ---

    def Search(self, request: pb.SearchRequest, context: Any) -> pb.SearchResponse:
        options = self._options(request.options)
        # Asked for once: protobuf copies all of it each time.
        values = request.vectors.values
        if self._is_single(request, values):
            return self._search_one(request, values, options, context)
        view, rows = self._targets.rows(request.target)
        chosen = filter_of(rows, view, request.options)
        k, distance_max, width, exact = options
        stop = stop_of(context)
        if request.WhichOneof("around") == "keys":
            self._require_rows(key_count(request.keys) * min(k, rows.row_count()), "answers")
            keys = native_keys(request.keys, view.key_type)
            return answer(*rows.nearest_to(keys, k, distance_max, chosen, width, exact, stop))
        queries = queries_of(values, request.vectors.dims, view)
        self._require_rows(len(queries) * min(k, rows.row_count()), "answers")
        return answer(*rows.nearest(queries, k, distance_max, chosen, width, exact, stop))

    def _is_single(self, request: pb.SearchRequest, values: bytes) -> bool:
        return (
            request.WhichOneof("around") == "vectors"
            and len(values) == 4 * request.vectors.dims
            and not request.options.HasField("filter")
            and request.target.WhichOneof("time") is None
        )

    def _search_one(
        self,
        request: pb.SearchRequest,
        values: bytes,
        options: tuple[int, float, int, bool],
        context: Any,
    ) -> pb.SearchResponse:
        target = request.target
        view = self._targets.whole(target)
        query = query_of(values, request.vectors.dims, view)
        lists = readable(target, view)

        def rows() -> _store.View:
            now = view._now()
            for names in lists:
                now = now.within(names)
            return now

        among = view._keys.id if isinstance(view, SubIndex) else 0
        common = (view._table.id, among, tuple(lists), options)
        found = self._searches.nearest(common, rows, query, options, partial(when_gone, context))
        return answer(found.keys, found.distances, [0, len(found)])

    def Recommend(self, request: pb.RecommendRequest, context: Any) -> pb.SearchResponse:
        options = self._options(request.options)
        view, rows = self._targets.rows(request.target)
        k, distance_max, width, exact = options
        chosen = filter_of(rows, view, request.options)
        examples = native_keys(request.examples, view.key_type)
        query = queries_of(request.query.values, request.query.dims, view)
        if len(query) != 1:
            raise InvalidArgumentError(f"recommend takes one query; {len(query)} were given")
        keys, distances = rows.recommend(
            query, examples, k, distance_max, chosen, width, exact, stop_of(context)
        )
        return answer(keys, distances, [0, len(keys)])

    def _options(self, options: pb.SearchOptions) -> tuple[int, float, int, bool]:
        distance_max = options.max_distance if options.HasField("max_distance") else None
        if distance_max is not None and math.isinf(distance_max):
            distance_max = None if distance_max > 0 else distance_max
        checked = search_options(options.k, distance_max, options.ef or None, options.exact)
        if checked[0] > self._limits.k:
            raise InvalidArgumentError(
                f"num is {checked[0]:,}; this server answers with at most {self._limits.k:,}, its "
                "limit `k`"
            )
        return checked

    def _require_rows(self, rows: int, what: str) -> None:
        if rows > self._limits.rows:
            raise InvalidArgumentError(
                f"the call has {rows:,} {what}; this server takes at most {self._limits.rows:,} in "
                f"one, {TOO_MANY}"
            )

    def _require_fits(self, count: int, view: View, what: str, instead: str) -> None:
        """Refuse what would be answered with more vectors than fit in a message, with room."""
        size = count * view.dims * 4
        if size > self._limits.message_bytes // 2:
            raise InvalidArgumentError(
                f"the vectors of {count:,} {what} have {size:,} bytes; one message has at most "
                f"{self._limits.message_bytes:,}: {instead}"
            )

    # --- averages and clusters ---

    def Average(self, request: pb.AverageRequest, context: Any) -> pb.AverageResponse:
        view, rows = self._targets.rows(request.target)
        keys = native_keys(request.keys, view.key_type)
        begins = as_offsets(numbers(request.begins, "<u8", "begins"), len(keys))
        weights = _arrays.as_weights(floats_of(request.weights, "weights"), len(keys))
        self._require_rows(len(begins), "groups")
        self._require_fits(len(begins), view, "groups", "ask in parts")
        means, found, states = rows.averages(
            keys, begins, weights, request.normalize, request.allow_missing
        )
        return pb.AverageResponse(
            means=vectors_message(means),
            found=found.astype("<i8").tobytes(),
            states=states.astype(np.uint8).tobytes(),
        )

    def AveragePartitions(
        self, request: pb.AveragePartitionsRequest, context: Any
    ) -> pb.AverageResponse:
        view, rows = self._targets.rows(request.target)
        names, means, found, states = rows.partition_averages(request.normalize)
        lists = readable(request.target, view)
        kept = [i for i, name in enumerate(names) if is_in(name, lists)]
        return pb.AverageResponse(
            partitions=[names[i] for i in kept],
            means=vectors_message(means[kept]),
            found=np.asarray(found)[kept].astype("<i8").tobytes(),
            states=np.asarray(states)[kept].astype(np.uint8).tobytes(),
        )

    def KMeans(self, request: pb.KMeansRequest, context: Any) -> pb.KMeansResponse:
        view, rows = self._targets.rows(request.target)
        self._require_fits(request.k, view, "clusters", "ask for fewer")
        found = kmeans(
            rows,
            request.k,
            seed=request.seed,
            iterations=request.iterations,
            sample=request.sample if request.HasField("sample") else None,
            progress=False,
            before_step=lambda: require_active(context),
        )
        return pb.KMeansResponse(
            centroids=vectors_message(found.centroids),
            counts=found.counts.astype("<i8").tobytes(),
            inertia=found.inertia,
            rows=found.rows,
            iterations=found.iterations,
            converged=found.converged,
        )


def gathered_searches() -> Searches:
    """Searches of a hub that are gathered, and end when nobody waits for them."""
    return Searches(_store.Stop, at_once=len(os.sched_getaffinity(0)))


def stop_of(context: Any) -> _store.Stop:
    """What ends a search when its caller has left, or the time of the call is over."""
    stop = _store.Stop()
    when_gone(context, stop.set)
    return stop


def when_gone(context: Any, callback: Callable[[], None]) -> None:
    """Have something called once the caller has left: at once, if it has already."""
    if not context.add_callback(callback):
        callback()


def is_in(name: str, lists: list[tuple[bytes, ...]]) -> bool:
    """Whether a partition is in all lists."""
    return all(name.encode() in names for names in lists)


def chunk_rows(dims: int, message_bytes: int) -> int:
    """How many rows a message of a stream has, if one has at most so many bytes."""
    return max(1, min(CHUNK_BYTES, message_bytes // 4) // (4 * dims))


def chunk_keys(message_bytes: int) -> int:
    """How many keys a message of a stream has: however long they are, half of it holds them."""
    return min(KEYS_CHUNK_ROWS, max(1, message_bytes // 2 // KEY_BYTES_MAX))


def rows_of(rows: _store.View, keys: pb.Keys, key_type: KeyType, allow_missing: bool) -> pb.Rows:
    """The vectors of some keys."""
    packed = native_keys(keys, key_type)
    if not allow_missing:
        return pb.Rows(vectors=vectors_message(rows.multiget(packed)))
    vectors, found = rows.multiget_found(packed)
    return pb.Rows(vectors=vectors_message(vectors), found=found.tobytes())


def keys_slice(keys: pb.Keys, key_type: KeyType, row: int) -> _store.Keys:
    """One key of a message."""
    return native_keys(message_slice(keys, key_type, row, row + 1), key_type)


def queries_of(values: bytes, dims: int, view: View) -> Vectors:
    """The queries of a search, in the bytes given, with the dims of what is searched."""
    return _arrays.as_vectors(rows_in(values, dims), view.dims, view.space, "query vector")


def query_of(values: bytes, dims: int, view: View) -> Vectors:
    """The one query of a search: float32[dims], in the bytes given."""
    if LITTLE_ENDIAN and dims == view.dims and len(values) == 4 * dims:
        query: Vectors = np.frombuffer(values, np.float32)
    else:
        query = queries_of(values, dims, view)[0]
    return query


def filter_of(rows: _store.View, view: View, options: pb.SearchOptions) -> _store.Filter | None:
    """The rows that may be in the answer; None: all."""
    if not options.HasField("filter"):
        return None
    return rows.select(native_keys(options.filter, view.key_type))


def answer(keys: Any, distances: Any, begins: list[int]) -> pb.SearchResponse:
    """The neighbours of all queries."""
    return pb.SearchResponse(
        keys=pack_array(keys),
        distances=distances.tobytes(),
        counts=struct.pack(f"<{len(begins) - 1}I", *map(sub, begins[1:], begins)),
    )
