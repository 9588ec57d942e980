"""A batch of rows as the messages that it travels in, packed here: each number is copied once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

from ehub.types import Vectors
from ehub.wire import ehub_pb2 as pb
from ehub.wire.packing import vectors_pieces, within

__all__ = ["BatchMessages", "key_ends"]

# Of vectors in one message, at most. Larger ones take new memory each time, which costs more than
# copying.
CHUNK_BYTES = 4 << 20


class BatchMessages(Sequence[bytes]):
    """One batch: `WriteRequest`s, packed when they are asked for, each with all of its own rows.

    Args:
        request: The number of the write.
        target: What is written to.
        keys: Of the rows.
        vectors: float32[n, dims], not to be changed meanwhile.
        partitions: Names.
        row_partitions: Per row its place among them; None: all the first.
        message_bytes: What a message may have; that of a single row may have more.
    """

    def __init__(
        self,
        request: pb.RequestId,
        target: pb.Target,
        keys: pb.Keys,
        vectors: Vectors,
        partitions: tuple[bytes, ...],
        row_partitions: NDArray[np.uint32] | None,
        message_bytes: int,
    ) -> None:
        self._request = request
        self._target = pb.Part(target=target).SerializeToString()
        self._vectors = np.ascontiguousarray(vectors, "<f4")
        self._names = [name.decode() for name in partitions]
        self._row_partitions = row_partitions
        self._integers, self._utf8, self._lengths = keys.integers, keys.utf8, keys.lengths
        self._key_ends = key_ends(self._lengths)
        self._cuts = self._cut(min(CHUNK_BYTES, message_bytes // 2))

    def _cut(self, size: int) -> list[int]:
        """The rows at which messages of at most so many bytes of rows begin, and the end."""
        rows, dims = self._vectors.shape
        # Before each row: vectors, and what a key, its length and the row's partition take.
        fixed = 4 * dims + (0 if self._row_partitions is None else 4)
        fixed += 8 if self._integers else 2
        before = np.arange(rows + 1, dtype=np.int64) * fixed
        if not self._integers:
            before += self._key_ends
        cuts = [0]
        while (last := cuts[-1]) < rows:
            fits = int(np.searchsorted(before, before[last] + size, "right")) - 1
            cuts.append(max(fits, last + 1))
        return cuts

    def __len__(self) -> int:
        return len(self._cuts) - 1

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        begin, end = self._cuts[index], self._cuts[index + 1]
        rows, labels = self._vectors[begin:end], self._row_partitions
        rest = pb.Set(
            keys=self._keys(begin, end),
            partitions=self._names,
            row_partitions=b"" if labels is None else labels[begin:end].tobytes(),
        ).SerializeToString()
        outer = pb.WriteRequest(request=self._request, more=index + 1 < len(self))
        inner = within(rest, pb.Set.VECTORS_FIELD_NUMBER, vectors_pieces(rows))
        inner = within(self._target, pb.Part.SET_FIELD_NUMBER, inner)
        whole = within(outer.SerializeToString(), pb.WriteRequest.PARTS_FIELD_NUMBER, inner)
        return b"".join(whole)

    def _keys(self, begin: int, end: int) -> pb.Keys:
        """Those of some rows."""
        if self._integers:
            return pb.Keys(integers=self._integers[8 * begin : 8 * end])
        utf8 = self._utf8[self._key_ends[begin] : self._key_ends[end]]
        return pb.Keys(utf8=utf8, lengths=self._lengths[2 * begin : 2 * end])


def key_ends(lengths: bytes) -> NDArray[np.int64]:
    """Where each key that is text begins in the bytes of all, and where the last one ends."""
    ends = np.zeros(len(lengths) // 2 + 1, np.int64)
    np.cumsum(np.frombuffer(lengths, "<u2"), out=ends[1:])
    return ends
