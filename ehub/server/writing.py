"""Calls that write: atomic batches, each applied once however often it is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ehub import _arrays
from ehub._native import _store
from ehub.errors import ConflictError, InvalidArgumentError
from ehub.server import scope
from ehub.server.config import Limits
from ehub.server.requests import Requests, Ticket
from ehub.server.targets import Targets
from ehub.server.unfinished import Unfinished
from ehub.types import Vectors
from ehub.version import Part, Version
from ehub.wire import ehub_pb2 as pb
from ehub.wire.chunks import Chunk, Piece
from ehub.wire.packing import joined_rows, native_keys, numbers

__all__ = ["Writing"]

# What a message takes beside its content.
MESSAGE_BYTES = 1_024


class Writing:
    """A part of the servicer (service.py)."""

    _limits: Limits
    _targets: Targets
    _requests: Requests
    _unfinished: Unfinished

    def Write(self, chunk: Chunk, context: Any) -> pb.WriteResponse:
        if chunk.request.more:
            raise InvalidArgumentError("a batch in several messages goes by Ingest")
        return self._write([chunk], {})

    def Ingest(self, requests: Iterator[Chunk], context: Any) -> Iterator[pb.WriteResponse]:
        # An alias may be moved meanwhile; what one stream brings goes to one version.
        versions: dict[tuple[str, str, int], Version] = {}
        with self._unfinished.room() as room:
            chunks: list[Chunk] = []
            for chunk in requests:
                room.take(chunk.size + MESSAGE_BYTES)
                chunks.append(chunk)
                if chunk.request.more:
                    continue
                yield self._write(chunks, versions)
                chunks = []
                room.close()
            if chunks:
                raise InvalidArgumentError("the stream ends within a batch, which was not applied")

    def _write(
        self, chunks: list[Chunk], versions: dict[tuple[str, str, int], Version]
    ) -> pb.WriteResponse:
        """Apply one batch, unless it was."""
        return self._requests.once(
            chunks[0].request,
            lambda ticket: self._apply(chunks, versions, ticket),
            lambda: content_of(chunks),
        )

    def _apply(
        self,
        chunks: list[Chunk],
        versions: dict[tuple[str, str, int], Version],
        ticket: Ticket | None,
    ) -> int:
        parts = [piece for chunk in chunks for piece in chunk.pieces]
        if not parts:
            raise InvalidArgumentError("a batch with no parts")
        kinds = {part.WhichOneof("what") for part, _ in parts}
        if kinds != {"set"}:
            if len(parts) != 1:
                raise InvalidArgumentError("a delete is a batch of its own")
            return self._delete(parts[0][0], versions, ticket)
        if len(chunks) > 1:
            merged = [self._merged(parts, versions)]
        else:
            merged = [self._part(*piece, versions) for piece in parts]
        rows = len(merged[0][1])
        set_rows(merged, None if ticket is None else ticket.notes(rows))
        return rows

    def _version(self, target: pb.Target, versions: dict[Any, Version]) -> Version:
        if target.subindex:
            raise InvalidArgumentError(
                "rows are set and deleted in a version, not in a sub-index of it; leave it out"
            )
        named = (target.space, target.version, target.version_id)
        version = versions.get(named)
        if version is None:
            version = versions[named] = self._targets.version(target)
        return version

    def _part(self, part: pb.Part, vectors: Any, versions: dict[Any, Version]) -> Part:
        """A set of one version, all checked."""
        version = self._version(part.target, versions)
        table = version._table
        names = tuple(part.set.partitions)
        keys = native_keys(part.set.keys, table.key_type)
        rows = _arrays.as_vectors(vectors, table.dims, table.space)
        _arrays.require_same_length(keys, rows)
        labels = labels_of(part.set, len(keys))
        return table, keys, rows, tuple(map(_arrays.as_partition_name, names)), labels

    def _merged(self, pieces: list[Piece], versions: dict[Any, Version]) -> Part:
        """The chunks of one batch of one version, in one piece."""
        parts = [part for part, _ in pieces]
        first = parts[0]
        if any(
            part.target != first.target or part.set.partitions != first.set.partitions
            for part in parts
        ):
            raise InvalidArgumentError(
                "the chunks of a batch name different versions or partitions; expected the same"
            )
        space, dims = first.target.space, self._version(first.target, versions).dims
        arrays = [of_dims(vectors, dims, space) for _, vectors in pieces]
        whole = pb.Part(target=first.target)
        for name in ("utf8", "lengths", "integers"):
            joined = b"".join(getattr(part.set.keys, name) for part in parts)
            setattr(whole.set.keys, name, joined)
        whole.set.partitions.extend(first.set.partitions)
        whole.set.row_partitions = b"".join(part.set.row_partitions for part in parts)
        return self._part(whole, joined_rows(arrays, dims), versions)

    def _delete(self, part: pb.Part, versions: dict[Any, Version], ticket: Ticket | None) -> int:
        version = self._version(part.target, versions)
        table = version._table
        names = tuple(map(_arrays.as_partition_name, part.target.partitions))
        require_write(table, names, None)
        rows = table.view().within(names) if names else table.view()
        if part.WhichOneof("what") == "delete":
            keys = native_keys(part.delete, table.key_type)
            count = count_of(rows, keys)
            if count == 0:  # costs no write; sent again it is looked at again
                return 0
            notes = None if ticket is None else ticket.notes(count)
            if names:
                return table.multidelete_within(keys, names, notes)
            return table.multidelete(keys, notes)
        if not part.delete_all:
            raise InvalidArgumentError("a part says neither what to set nor what to delete")
        count = rows.row_count()
        if count == 0:
            return 0
        notes = None if ticket is None else ticket.notes(count)
        return table.delete_all_within(names, notes) if names else table.delete_all(notes)


def of_dims(vectors: Any, dims: int, space: str) -> Vectors:
    """Rows as a version has them, wherever they lie: to lay them out would be one more copy."""
    if vectors.shape[1:] == (dims,):
        rows: Vectors = vectors
        return rows
    return _arrays.as_vectors(vectors, dims, space)


def content_of(chunks: list[Chunk]) -> Iterator[bytes]:
    """What tells a batch from another, however it is cut into messages.

    Of vectors that is their size, and a checksum: to copy all of them through the digest would cost
    as much as to receive them.
    """
    pieces = [piece for chunk in chunks for piece in chunk.pieces]
    for part in [pieces] if pieces and len(chunks) > 1 else [[piece] for piece in pieces]:
        told = [one for one, _ in part]
        first, what = told[0], told[0].WhichOneof("what")
        yield first.target.SerializeToString(deterministic=True)
        yield str(what).encode()
        if what == "delete":
            yield first.delete.SerializeToString()
        if what != "set":
            continue
        yield "\0".join(first.set.partitions).encode()
        for name in ("utf8", "lengths", "integers"):
            yield b"".join(getattr(one.set.keys, name) for one in told)
        yield b"".join(one.set.row_partitions for one in told)
        vectors = [rows for _, rows in part if rows is not None and len(rows)]
        yield str([sum(map(len, vectors)), *(rows.shape[1:] for rows in vectors[:1])]).encode()
        yield checksum_of(vectors).to_bytes(4, "little")


def checksum_of(parts: list[Vectors]) -> int:
    """Of vectors one behind the other."""
    crc = 0
    for vectors in parts:
        crc = _store.checksum(np.require(vectors, np.float32, ["C", "A"]), crc)
    return crc


def set_rows(parts: list[Part], notes: dict[str, str | None] | None) -> None:
    """Write a batch of sets, and take no key from a partition where the caller may not write."""
    while True:
        bounds = [require_write(table, names, keys) for table, keys, _, names, _ in parts]
        if len(parts) == 1 and bounds[0] is None:
            table, keys, vectors, names, labels = parts[0]
            return table.multiset(keys, vectors, names, labels, notes)
        try:
            return _store.multiset_all(parts, notes, bounds)
        except ConflictError:  # a key has come into another partition since: look again, who may
            continue


def require_write(
    table: _store.Table, partitions: tuple[bytes, ...], keys: _store.Keys | None
) -> tuple[bytes, ...] | None:
    """Refuse what the caller may not write; the partitions in which the keys must be, or None."""
    allows = scope.may_write.get()
    if allows is None:
        return None
    own = allows(table, tuple(name.decode() for name in partitions), keys)
    return None if own is None else tuple(name.encode() for name in own)


def labels_of(given: pb.Set, rows: int) -> NDArray[np.uint32] | None:
    """Per row its place among the names of partitions; None: all the first one."""
    names = len(given.partitions)
    if not given.row_partitions:
        if names > 1 and rows:
            raise InvalidArgumentError(f"{names} partitions, and no place among them for each row")
        return None
    labels: NDArray[np.uint32] = numbers(given.row_partitions, "<u4", "partitions of rows")
    if len(labels) != rows:
        raise InvalidArgumentError(f"{rows} keys, but {len(labels)} partitions")
    if rows and labels.max() >= names:
        raise InvalidArgumentError(f"a row is in partition {labels.max()}, and {names} are named")
    return labels


def count_of(rows: _store.View, keys: _store.Keys) -> int:
    """How many of the keys are there."""
    return int(np.count_nonzero(rows.births(keys)))
