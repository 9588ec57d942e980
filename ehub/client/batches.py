"""A batch of rows as the messages that it travels in, packed here: each number is copied once.

Protobuf copies bytes when they are put into a message, when that is put into another one, and when
it is packed; for vectors that is most of the time that sending takes. So the small parts are packed
by protobuf, and the vectors put between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ehub.types import Vectors
from ehub.wire import ehub_pb2 as pb

__all__ = ["BatchMessages"]

# Of vectors in one message, at most. Larger ones take new memory each time, which costs more than
# copying.
CHUNK_BYTES = 4 << 20
LENGTH_DELIMITED = 2


class BatchMessages(Sequence[bytes]):
    """One batch: `WriteRequest`s, packed when they are asked for; the first has all but vectors.

    Args:
        request: The number of the write.
        target: What is written to.
        keys: Of the rows.
        vectors: float32[n, dims], not to be changed meanwhile.
        partitions: Names.
        row_partitions: Per row its place among them; None: all the first.
        message_bytes: What a message may have.
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
        labels = b"" if row_partitions is None else row_partitions.tobytes()
        self._first = pb.Set(
            keys=keys, partitions=self._names, row_partitions=labels
        ).SerializeToString()
        size = min(CHUNK_BYTES, message_bytes // 2)
        self._rows = max(1, size // (4 * int(vectors.shape[1])))

    def __len__(self) -> int:
        return -(-len(self._vectors) // self._rows)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        rows = self._vectors[index * self._rows : (index + 1) * self._rows]
        rest = self._first
        if index > 0:
            rest = pb.Set(partitions=self._names).SerializeToString()
        outer = pb.WriteRequest(request=self._request, more=index + 1 < len(self))
        vectors = pb.Vectors(dims=rows.shape[1]).SerializeToString()
        inner = within(vectors, pb.Vectors.VALUES_FIELD_NUMBER, [rows])
        inner = within(rest, pb.Set.VECTORS_FIELD_NUMBER, inner)
        inner = within(self._target, pb.Part.SET_FIELD_NUMBER, inner)
        whole = within(outer.SerializeToString(), pb.WriteRequest.PARTS_FIELD_NUMBER, inner)
        return b"".join(whole)


def within(outer: bytes, field: int, inner: list[Any]) -> list[Any]:
    """Pieces of a message: `outer`, with what the pieces `inner` make together in a field of it."""
    size = sum(memoryview(piece).nbytes for piece in inner)
    return [outer, varint(field << 3 | LENGTH_DELIMITED) + varint(size), *inner]


def varint(number: int) -> bytes:
    """A number as protobuf has it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
